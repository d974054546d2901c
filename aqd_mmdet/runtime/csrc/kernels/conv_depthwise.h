// Depthwise convolution, for any Simd (simd.h): each output channel reads one
// channel of the input, so that there is no reduction over channels. A MAC sums
// over columns instead, those of a group (ColumnGroups): a strip of rows is
// copied so that the codes that a channel has in a group lie together. Groups
// do not overlap. A window may begin at any column of a group, and for each of
// these *phases* there are weights that are shifted so far, with zeros around
// them.

#pragma once

#include <vector>

#include "kernels/epilogue.h"
#include "kernels/isa.h"
#include "kernels/padding.h"

namespace aqd {

// What all microkernels of a depthwise convolution share.
struct DepthwiseConv {
  const ColumnGroups &groups;
  int64_t kernel_rows;
  int64_t group_bytes;  // of all channels
  int64_t tap_row_step;  // bytes from a row that a window reads to the next
  int64_t row_step;      // and from the first row of a window to the next one's
  int64_t phase_weights;  // bytes, of one vector of channels

  DepthwiseConv(const Window &window, const ColumnGroups &columns,
                const InputView &view, int64_t lanes)
      : groups(columns), kernel_rows(window.kernel.height),
        group_bytes(view.pixel_bytes),
        tap_row_step(window.dilation.height * view.row_bytes),
        row_step(window.stride.height * view.row_bytes),
        phase_weights(kernel_rows * columns.count * 4 * lanes) {}
};

// kPixels neighbouring outputs of a vector of channels.
template <class Simd, class Mac, int kPhases, int kPixels>
AQD_TARGET void depthwise_microkernel(const DepthwiseConv &conv,
                                      const uint8_t *row,
                                      const int8_t *weights,
                                      const int32_t *acc_init, int32_t *to) {
  constexpr int kLanes = Simd::kShape.lanes;
  constexpr int kGroups = kPixels / kPhases;
  const int64_t last = conv.groups.count - 1;
  const int64_t next = conv.groups.step * conv.group_bytes;
  typename Mac::Acc acc[kPixels];
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) {
    if constexpr (Mac::kIsShort) {
      Simd::store(Simd::load(acc_init), to + p * kLanes);
    }
    acc[p] = Mac::begin(acc_init);
  }
  for (int64_t v = 0; v < conv.kernel_rows; ++v, row += conv.tap_row_step) {
    const uint8_t *group = row;
    for (int64_t t = 0; t <= last; ++t, group += conv.group_bytes) {
      typename Mac::Operand codes[kGroups];
#pragma GCC unroll 8
      for (int i = 0; i < kGroups; ++i) {
        codes[i] = Mac::load(reinterpret_cast<const int8_t *>(group) + i * next);
      }
      const int64_t first = t < last ? 0 : conv.groups.first_of_last;
#pragma GCC unroll 4
      for (int r = 0; r < kPhases; ++r) {
        if (r < first) continue;
        const auto taps = Mac::load(weights + r * conv.phase_weights);
#pragma GCC unroll 8
        for (int i = 0; i < kGroups; ++i) {
          acc[i * kPhases + r] = Mac::add(acc[i * kPhases + r], codes[i], taps);
        }
      }
      weights += 4 * kLanes;
    }
  }
#pragma GCC unroll 8
  for (int p = 0; p < kPixels; ++p) Mac::end(acc[p], to + p * kLanes);
}

template <class Simd, class Mac, int kPhases>
AQD_TARGET void depthwise_rows(const DepthwiseConv &conv,
                               const PackedDepthwise &packed,
                               const Epilogue<Simd> &epilogue,
                               const uint8_t *windows, RowRange rows) {
  constexpr int64_t kLanes = Simd::kShape.lanes;
  const int8_t *weights = packed.weights.data()->bytes;
  const int64_t vector_weights = kPhases * conv.phase_weights;
  const int64_t pixel_step = conv.groups.step * conv.group_bytes;
  AccTile<Simd> values;
  for (int64_t row = 0; row < rows.count; ++row) {
    const uint8_t *from = windows + row * conv.row_step;
    epilogue.run_row(rows.top + row, &values,
                     [&](const TileCoord &tile) AQD_TARGET {
      const uint8_t *codes = from + tile.column / kPhases * pixel_step +
                             tile.vector * 4 * kLanes;
      for (int p = 0; p < tile.pixels; p += kDepthwisePixels) {
        const auto run = tile.pixels - p > kDepthwisePixels / 2
            ? depthwise_microkernel<Simd, Mac, kPhases, kDepthwisePixels>
            : depthwise_microkernel<Simd, Mac, kPhases, kDepthwisePixels / 2>;
        run(conv, codes + p / kPhases * pixel_step,
            weights + tile.vector * vector_weights,
            packed.acc_init.data() + tile.vector * kLanes,
            values.acc + p * kLanes);
      }
    });
  }
}

// A vector of channels of a group: its codes, as bytes or as 16 bits.
template <class Simd, int kColumns, class T>
AQD_TARGET AQD_INLINE typename Simd::Lanes group_codes(const T *const *columns,
                                                       int64_t channel) {
  // Without a sign, so that all bits may be shifted to their places.
  using Unsigned =
      typename VectorOf<uint32_t, sizeof(typename Simd::Lanes)>::type;
  constexpr int kBits = 32 / kColumns;
  constexpr uint32_t kMask = (uint32_t{1} << kBits) - 1;
  Unsigned codes = Unsigned(Simd::load(columns[kColumns - 1] + channel));
#pragma GCC unroll 4
  for (int i = kColumns - 2; i >= 0; --i) {
    codes = codes << kBits |
            (Unsigned(Simd::load(columns[i] + channel)) & kMask);
  }
  return typename Simd::Lanes(codes);
}

// Copies rows of the input, with the padding around them, in groups.
template <class Simd, int kColumns, class T>
AQD_TARGET void copy_groups(const FusedOp &fused, const PackedDepthwise &packed,
                            RowRange rows, const T *codes, uint8_t *to) {
  using Bytes = typename VectorOf<uint8_t, sizeof(typename Simd::Lanes)>::type;
  constexpr int64_t kLanes = Simd::kShape.lanes;
  const Tensor &x = *fused.x;
  const int64_t channels = x.channels, width = x.size.width;
  const int64_t vectors = vectors_of(channels, kLanes);
  const int64_t padding = fused.conv().window.padding.width;
  const int64_t groups = packed.groups.of_row(fused.size.width);
  const Bytes shift =
      Bytes{} + static_cast<uint8_t>(packed.input.zero_point_shift);
  std::vector<T> border(static_cast<size_t>(vectors * kLanes));
  std::copy(packed.input.zero_points.begin(), packed.input.zero_points.end(),
            border.begin());
  for (int64_t row = rows.top; row < rows.top + rows.count; ++row) {
    const bool is_inside = row >= 0 && row < x.size.height;
    for (int64_t group = 0; group < groups; ++group) {
      const T *columns[kColumns];
      for (int i = 0; i < kColumns; ++i) {
        const int64_t column = packed.groups.column(group, i) - padding;
        columns[i] = is_inside && column >= 0 && column < width
                         ? codes + (row * width + column) * channels
                         : border.data();
      }
      for (int64_t v = 0; v < vectors; ++v, to += 4 * kLanes) {
        const auto lanes =
            group_codes<Simd, kColumns>(columns, v * kLanes);
        store_as(Bytes(lanes) + shift, to);
      }
    }
  }
}

template <class Simd, class Mac, int kColumns>
void convolve_depthwise(const FusedOp &fused, const PackedDepthwise &packed,
                        const Workers &workers) {
  const Window &window = fused.conv().window;
  const InputView view(fused.root(), *fused.x, packed, Simd::kShape.lanes);
  const DepthwiseConv conv(window, packed.groups, view, Simd::kShape.lanes);
  const Epilogue<Simd> epilogue(fused);
  const int64_t phases = packed.groups.phases;
  const auto run = phases == 1   ? depthwise_rows<Simd, Mac, 1>
                   : phases == 2 ? depthwise_rows<Simd, Mac, 2>
                                 : depthwise_rows<Simd, Mac, kColumns>;
  divide_rows(fused, view, workers, [&](RowRange rows, uint8_t *memory) {
    const auto copy = [&](const auto *codes) {
      copy_groups<Simd, kColumns>(fused, packed, rows_read(window, rows), codes,
                                  memory);
    };
    if constexpr (kColumns == 2) {
      with_codes(*fused.x, copy);
    } else {
      // Bytes stay bytes, for which the sign does not matter.
      copy(static_cast<const uint8_t *>(fused.x->data));
    }
    run(conv, packed, epilogue, memory, rows);
  });
}

template <class Simd>
void convolve(const FusedOp &fused, const PackedDepthwise &packed,
              const Workers &workers) {
  if (packed.input.widen) {
    convolve_depthwise<Simd, typename Simd::WordMac, 2>(fused, packed, workers);
  } else {
    convolve_depthwise<Simd, typename Simd::ByteMac, 4>(fused, packed, workers);
  }
}

}  // namespace aqd
