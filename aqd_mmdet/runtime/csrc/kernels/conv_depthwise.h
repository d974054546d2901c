// Depthwise convolution, for any Simd (simd.h): each output channel reads one
// channel of the input, so that there is no reduction over channels. A MAC sums
// over columns instead, those of a group (ColumnGroups). Rows are copied so
// that the codes of a channel in a group lie together. Several windows begin in
// a group; which one of these a window is, is its phase. Each phase has its own
// weights, which are shifted, with zeros around them.

#pragma once

#include <algorithm>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/isa.h"
#include "kernels/padding.h"

namespace aqd {

// What all microkernels of a depthwise convolution share.
struct DepthwiseConv {
  // A group that windows read, and the first phase that does.
  struct Step {
    int64_t offset;  // in bytes
    int64_t first;
  };

  std::vector<Step> steps;
  int64_t group_step;  // bytes from where a window begins to the next group
                       // where one begins
  int64_t row_step;    // and from a row of windows to the next

  DepthwiseConv(const Window &window, const ColumnGroups &groups,
                const InputView &view)
      : group_step(groups.step * view.pixel_bytes),
        row_step(window.stride.height * view.row_bytes) {
    for (int64_t v = 0; v < window.kernel.height; ++v) {
      for (int64_t i = 0; i < groups.count; ++i) {
        steps.push_back({v * window.dilation.height * view.row_bytes +
                             i * view.pixel_bytes,
                         i == groups.count - 1 ? groups.first_of_last : 0});
      }
    }
  }
};

// Stores accumulators, for an epilogue.
template <class Simd, class Mac>
struct AccStore {
  const int32_t *acc_init;
  int32_t *to;

  template <int kPixels>
  AQD_TARGET AQD_INLINE void operator()(
      typename Mac::Acc (&acc)[kPixels]) const {
#pragma GCC unroll 16
    for (int p = 0; p < kPixels; ++p) {
      int32_t *each = to + p * Simd::kShape.lanes;
      if constexpr (Mac::kIsShort) Simd::store(Simd::load(acc_init), each);
      Mac::end(acc[p], each);
    }
  }
};

// Stores what a ByteEpilogue makes of them.
template <class Simd>
struct ByteStore {
  const ByteEpilogue<Simd> &epilogue;
  int64_t vector;
  ByteSpan span;
  int pixels;  // that there are

  template <int kPixels>
  AQD_TARGET AQD_INLINE void operator()(
      typename Simd::Lanes (&acc)[kPixels]) const {
    epilogue.requantize(vector, acc);
#pragma GCC unroll 4
    for (int p = 0; p < kPixels; p += 4) {
      if (p >= pixels) return;
      Simd::store_four({acc[p], acc[p + 1], acc[p + 2], acc[p + 3]}, p, pixels,
                       span);
    }
  }
};

// Makes the accumulators of a vector of channels of kPixels neighbouring
// outputs. Lanes beyond the channels are not stored, nor are pixels beyond the
// row.
template <class Simd, class Mac, int kPhases, int kPixels, class Store>
AQD_TARGET void depthwise_microkernel(const DepthwiseConv &conv,
                                      const int8_t *codes,
                                      const int8_t *weights,
                                      const int32_t *acc_init,
                                      const Store &store) {
  constexpr int64_t kLanes = Simd::kShape.lanes;
  constexpr int kGroups = kPixels / kPhases;
  typename Mac::Acc acc[kPixels];
#pragma GCC unroll 16
  for (int p = 0; p < kPixels; ++p) acc[p] = Mac::begin(acc_init);
  for (const DepthwiseConv::Step &step : conv.steps) {
    const int8_t *from = codes + step.offset;
    typename Mac::Operand x[kGroups];
#pragma GCC unroll 16
    for (int i = 0; i < kGroups; ++i, from += conv.group_step) {
      x[i] = Mac::load(from);
    }
#pragma GCC unroll 4
    for (int phase = 0; phase < kPhases; ++phase, weights += 4 * kLanes) {
      if (phase < step.first) continue;
      const typename Mac::Operand w = Mac::load(weights);
#pragma GCC unroll 16
      for (int p = phase; p < kPixels; p += kPhases) {
        acc[p] = Mac::add(acc[p], x[p / kPhases], w);
      }
    }
  }
  store(acc);
}

// The smallest microkernel for so many pixels, up to kPixels.
template <class Simd, class Mac, int kPhases, int kPixels, class Store>
auto depthwise_microkernel_for(int pixels) {
  if constexpr (kPixels > 4) {
    if (pixels <= kPixels / 2) {
      return depthwise_microkernel_for<Simd, Mac, kPhases, kPixels / 2, Store>(
          pixels);
    }
  }
  return depthwise_microkernel<Simd, Mac, kPhases, kPixels, Store>;
}

// Makes a tile; `store_of` is what stores accumulators of pixels from one on.
template <class Simd, class Mac, int kPhases, class StoreOf>
AQD_TARGET AQD_INLINE void depthwise_tile(const DepthwiseConv &conv,
                                          const PackedDepthwise &packed,
                                          const int8_t *codes,
                                          const TileCoord &tile,
                                          const StoreOf &store_of) {
  constexpr int64_t kLanes = Simd::kShape.lanes;
  // As many as there are registers for.
  constexpr int kPixels = Simd::kMr * Simd::kShape.nr < 16 ? 8 : 16;
  static_assert(kTilePixels % kPixels == 0);
  const int64_t bytes =  // of a vector's weights
      static_cast<int64_t>(conv.steps.size()) * kPhases * 4 * kLanes;
  for (int p = 0; p < tile.pixels; p += kPixels) {
    const auto store = store_of(p);
    const auto run =
        depthwise_microkernel_for<Simd, Mac, kPhases, kPixels, decltype(store)>(
            tile.pixels - p);
    run(conv,
        codes + (tile.column + p) / kPhases * conv.group_step +
            tile.vector * 4 * kLanes,
        packed.weights.data()->bytes + tile.vector * bytes,
        packed.acc_init.data() + tile.vector * kLanes, store);
  }
}

template <class Simd, class Mac, int kPhases>
AQD_TARGET void depthwise_rows(const FusedOp &fused, const DepthwiseConv &conv,
                               const PackedDepthwise &packed,
                               const uint8_t *windows, RowRange rows) {
  constexpr int64_t kLanes = Simd::kShape.lanes;
  const Epilogue<Simd> epilogue(fused);
  const ByteEpilogue<Simd> bytes(fused);
  AccTile<Simd> values;
  for (int64_t i = 0; i < rows.count; ++i) {
    const int64_t row = rows.top + i;
    const int8_t *codes =
        reinterpret_cast<const int8_t *>(windows + i * conv.row_step);
    if constexpr (ByteEpilogue<Simd>::template kTakes<Mac>) {
      if (bytes.fits()) {
        epilogue.each_tile(row, [&](const TileCoord &tile) AQD_TARGET {
          const auto store_of = [&](int p) {
            return ByteStore<Simd>{
                bytes, tile.vector, bytes.span(tile, p, 1), tile.pixels - p};
          };
          depthwise_tile<Simd, Mac, kPhases>(conv, packed, codes, tile,
                                             store_of);
        });
        continue;
      }
    }
    epilogue.run_row(row, &values, [&](const TileCoord &tile) AQD_TARGET {
      const auto store_of = [&](int p) {
        return AccStore<Simd, Mac>{
            packed.acc_init.data() + tile.vector * kLanes,
            values.acc + p * kLanes};
      };
      depthwise_tile<Simd, Mac, kPhases>(conv, packed, codes, tile, store_of);
    });
  }
}

// Copies rows of the input, with the padding around them, in groups.
template <class Simd, int kColumns, class T>
AQD_TARGET void copy_groups(const FusedOp &fused, const PackedDepthwise &packed,
                            RowRange rows, const T *codes, uint8_t *to) {
  using Bytes = typename VectorOf<uint8_t, 4 * Simd::kShape.lanes>::type;
  constexpr int64_t kLanes = Simd::kShape.lanes;
  const Tensor &x = *fused.x;
  const int64_t channels = x.channels, dilation = packed.groups.dilation;
  const int64_t end = vectors_of(channels, kLanes) * kLanes;
  const Bytes shift =
      Bytes{} + static_cast<uint8_t>(packed.input.zero_point_shift);
  std::vector<T> border(static_cast<size_t>(end));
  for (size_t c = 0; c < packed.input.zero_points.size(); ++c) {
    border[c] = static_cast<T>(packed.input.zero_points[c]);
  }
  const std::vector<int64_t> starts = packed.groups.starts(
      fused.size.width, fused.conv().window.padding.width);
  for (int64_t row = rows.top; row < rows.top + rows.count; ++row) {
    const bool is_inside = row >= 0 && row < x.size.height;
    const uint64_t width = is_inside ? static_cast<uint64_t>(x.size.width) : 0;
    for (int64_t column : starts) {
      const T *from = codes + (row * x.size.width + column) * channels;
      const T *columns[kColumns];
#pragma GCC unroll 4
      for (const T *&each : columns) {
        // Negative ones are large without a sign.
        each = static_cast<uint64_t>(column) < width ? from : border.data();
        column += dilation;
        from += dilation * channels;
      }
      for (int64_t c = 0; c < end; c += kLanes, to += 4 * kLanes) {
        store_as(Bytes(Simd::interleave(columns, c)) + shift, to);
      }
    }
  }
}

template <class Simd, class Mac, int kColumns>
void convolve_depthwise(const FusedOp &fused, const PackedDepthwise &packed,
                        const Workers &workers) {
  const Window &window = fused.conv().window;
  const InputView view(fused.root(), *fused.x, packed, Simd::kShape.lanes);
  const DepthwiseConv conv(window, packed.groups, view);
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
    run(fused, conv, packed, memory, rows);
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
