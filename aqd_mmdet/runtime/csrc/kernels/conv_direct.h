// Direct convolution, for any Simd (simd.h). It is a GEMM of indirect rows: an
// output pixel reads a few contiguous segments of K, by their offsets, and a
// microkernel makes MR pixels x NR vectors of output channels in registers. All
// channels of a pixel meet the same four bytes of input, which one instruction
// broadcasts.

#pragma once

#include <algorithm>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/isa.h"
#include "kernels/padding.h"
#include "kernels/tuning.h"

namespace aqd {

// What all microkernels of a convolution share.
struct DirectConv {
  int64_t k_steps;               // of a segment
  std::vector<int64_t> offsets;  // of segments, in bytes
  int64_t pixel_step;  // bytes from an output pixel's window to the next
  int64_t row_step;    // and from a row's to the next

  DirectConv(const FusedOp &fused, const InputFormat &format,
             const InputView &view)
      : pixel_step(fused.conv().window.stride.width * view.pixel_bytes),
        row_step(fused.conv().window.stride.height * view.row_bytes) {
    const KSegments segments(fused.conv().window, fused.x->channels);
    k_steps = format.k_steps(segments.codes);
    offsets = segments.offsets(fused.conv().window, view);
  }

  // Bytes of a vector's weights, where so many steps of K lie together.
  int64_t weight_bytes(int64_t lanes, int64_t together) const {
    const int64_t groups = (k_steps + together - 1) / together;
    return static_cast<int64_t>(offsets.size()) * groups * together * 4 * lanes;
  }
};

// Some rows of accumulators, and what follows them.
template <class Simd>
struct AccRows {
  const Epilogue<Simd> &epilogue;
  const FusedOp &fused;
  const uint8_t *windows;  // where the first row reads
  RowRange rows;
};

// Makes the accumulators of MR pixels x NR vectors of output channels. Those of
// a vector lie together, kTilePixels for each.
template <class Simd, class Mac, int MR, int NR>
AQD_TARGET void direct_microkernel(const DirectConv &conv, int64_t k_per_spill,
                                   const int32_t *acc_init,
                                   const uint8_t *codes, const int8_t *weights,
                                   int32_t *to) {
  constexpr int64_t kLanes = Simd::kShape.lanes;
  constexpr int64_t kStride = kTilePixels * kLanes;
  if constexpr (Mac::kIsShort) {
    for (int i = 0; i < NR * MR; ++i) {
      Simd::store(Simd::load(acc_init + i / MR * kLanes),
                  to + i / MR * kStride + i % MR * kLanes);
    }
  }
  Accumulators<Mac, MR, NR> acc;
  acc.begin(acc_init, kLanes, 0);
  int64_t left = k_per_spill;
  for (const int64_t offset : conv.offsets) {
    const uint8_t *from = codes + offset;
    for (int64_t rest = conv.k_steps; rest > 0;) {
      const int64_t steps = Mac::kIsShort && left < rest ? left : rest;
      acc.add(steps, conv.pixel_step, from, weights);
      rest -= steps;
      if constexpr (Mac::kIsShort) {
        left -= steps;
        if (left > 0) continue;
        left = k_per_spill;
        acc.end(to, kStride, kLanes);
        acc.begin(to, kStride, kLanes);
      }
    }
  }
  acc.end(to, kStride, kLanes);
}

// The same, and what a ByteEpilogue makes of them.
template <class Simd, class Mac, int MR, int NR>
AQD_TARGET void direct_bytes_microkernel(
    const DirectConv &conv, const ByteEpilogue<Simd> &epilogue, int64_t vector,
    const int32_t *acc_init, const uint8_t *codes, const int8_t *weights,
    const ByteSpan &span) {
  Accumulators<Mac, MR, NR> acc;
  acc.begin(acc_init, Simd::kShape.lanes, 0);
  for (const int64_t offset : conv.offsets) {
    const uint8_t *from = codes + offset;
    acc.add(conv.k_steps, conv.pixel_step, from, weights);
  }
#pragma GCC unroll 8
  for (int v = 0; v < NR; ++v) epilogue.requantize(vector + v, acc.of(v));
#pragma GCC unroll 8
  for (int p = 0; p < MR; ++p) {
    typename Simd::Lanes x[NR];
#pragma GCC unroll 8
    for (int v = 0; v < NR; ++v) x[v] = acc.of(v)[p];
    Simd::store_vectors(x, span, span.to + p * span.next);
  }
}

// Divides a tile into microkernels of about as many pixels: calls with the
// first one and how many.
template <class Simd, class Take>
AQD_TARGET AQD_INLINE void each_part(int64_t pixels, const Take &take) {
  int64_t parts = (pixels + Simd::kMr - 1) / Simd::kMr;
  for (int64_t p = 0, part; p < pixels; p += part, --parts) {
    part = (pixels - p + parts - 1) / parts;
    take(p, part);
  }
}

// Makes a tile of a block of vectors.
template <class Simd, class Mac>
AQD_TARGET void direct_tile(const PackedDirect &packed, const DirectConv &conv,
                            const uint8_t *windows, const int8_t *weights,
                            const TileCoord &tile, int64_t vectors,
                            int32_t *to) {
  constexpr int64_t kLanes = Simd::kShape.lanes;
  each_part<Simd>(tile.pixels, [&](int64_t p, int64_t pixels) AQD_TARGET {
    const auto run = microkernel_for<Simd::kMr, Simd::kShape.nr>(
        pixels, vectors, [](auto mr, auto nr) {
          return direct_microkernel<Simd, Mac, mr, nr>;
        });
    run(conv, packed.input.k_per_spill,
        packed.acc_init.data() + tile.vector * kLanes,
        windows + p * conv.pixel_step, weights, to + p * kLanes);
  });
}

// Makes and stores the bytes of a tile of a block of vectors.
template <class Simd, class Mac>
AQD_TARGET void direct_bytes_tile(const PackedDirect &packed,
                                  const DirectConv &conv,
                                  const ByteEpilogue<Simd> &epilogue,
                                  const uint8_t *windows, const int8_t *weights,
                                  const TileCoord &tile, int64_t vectors) {
  each_part<Simd>(tile.pixels, [&](int64_t p, int64_t pixels) AQD_TARGET {
    const auto run = microkernel_for<Simd::kMr, Simd::kShape.nr>(
        pixels, vectors, [](auto mr, auto nr) {
          return direct_bytes_microkernel<Simd, Mac, mr, nr>;
        });
    run(conv, epilogue, tile.vector,
        packed.acc_init.data() + tile.vector * Simd::kShape.lanes,
        windows + p * conv.pixel_step, weights,
        epilogue.span(tile, p, vectors));
  });
}

template <class Simd, class Mac>
AQD_TARGET void direct_rows(const PackedDirect &packed, const DirectConv &conv,
                            const AccRows<Simd> &to) {
  constexpr int64_t kLanes = Simd::kShape.lanes;
  constexpr int kNr = Simd::kShape.nr;
  const int8_t *weights = packed.weights.data()->bytes;
  const int64_t vectors = vectors_of(to.fused.channels, kLanes);
  const int64_t each = conv.weight_bytes(kLanes, 1);
  alignas(64) int32_t acc[kNr][kTilePixels * kLanes];
  AccTile<Simd> values;
  const bool is_cached = vectors * each <= kCachedWeightBytes;
  const ByteEpilogue<Simd> bytes(to.fused);
  for (int64_t v = 0, end; v < vectors; v = end) {
    end = is_cached ? vectors : v + block_vectors(vectors - v, kNr);
    for (int64_t row = 0; row < to.rows.count; ++row) {
      const uint8_t *windows = to.windows + row * conv.row_step;
      to.epilogue.each_group(to.rows.top + row,
                             [&](TileCoord tile) AQD_TARGET {
        for (int64_t i = v, block; i < end; i += block) {
          block = block_vectors(vectors - i, kNr);
          tile.vector = i;
          to.epilogue.prefetch(tile, block);
          const uint8_t *from = windows + tile.column * conv.pixel_step;
          if constexpr (ByteEpilogue<Simd>::template kTakes<Mac>) {
            if (bytes.fits()) {
              direct_bytes_tile<Simd, Mac>(packed, conv, bytes, from,
                                           weights + i * each, tile, block);
              continue;
            }
          }
          direct_tile<Simd, Mac>(packed, conv, from, weights + i * each, tile,
                                 block, acc[0]);
          for (int64_t j = 0; j < block; ++j, ++tile.vector) {
            values.acc = acc[j];
            to.epilogue.run(tile, &values);
          }
        }
      });
    }
  }
}

// A row of the output of a convolution whose accumulators are pooled.
template <class Simd>
AQD_TARGET void pooled_row(const FusedOp &fused, const LineBuffer &buffer,
                           const Epilogue<Simd> &epilogue, int64_t row) {
  AccTile<Simd> values;
  epilogue.run_row(row, &values, [&](const TileCoord &tile) AQD_TARGET {
    buffer.pool<typename Simd::Lanes>(fused, row, tile.column, tile.pixels,
                                      tile.vector * Simd::kShape.lanes,
                                      values.acc);
  });
}

// Runs a convolution by strips of rows. `make` makes accumulators and runs
// their epilogue, by AccRows.
template <class Simd, class Make>
void convolve_strips(const FusedOp &fused, const InputFormat &format,
                     const InputView &view, const Workers &workers,
                     const Make &make) {
  const Epilogue<Simd> epilogue(fused);
  for_each_strip(fused, format, view, workers, [&](const RowStrip &strip) {
    if (!fused.root().is_pooled()) {
      make(AccRows<Simd>{epilogue, fused, strip.windows, strip.rows});
      return;
    }
    const LineBuffer buffer(fused, strip.line_buffer);
    const Epilogue<Simd> storing(buffer.conv);
    const int64_t step = fused.conv().window.stride.height * view.row_bytes;
    int64_t next = strip.acc_rows.top;
    for (int64_t i = 0; i < strip.rows.count; ++i) {
      const int64_t row = strip.rows.top + i;
      const RowRange needed = acc_rows(fused.root(), fused.x->size, {row, 1});
      for (; next < needed.top + needed.count; ++next) {
        make(AccRows<Simd>{storing, buffer.conv,
                           strip.windows + (next - strip.acc_rows.top) * step,
                           {next % buffer.lines.size.height, 1}});
      }
      pooled_row(fused, buffer, epilogue, row);
    }
  });
}

template <class Simd>
void convolve(const FusedOp &fused, const PackedDirect &packed,
              const Workers &workers) {
  const InputView view(fused.root(), *fused.x, packed.input);
  const DirectConv conv(fused, packed.input, view);
  const auto make = packed.input.widen
                        ? direct_rows<Simd, typename Simd::WordMac>
                        : direct_rows<Simd, typename Simd::ByteMac>;
  convolve_strips<Simd>(
      fused, packed.input, view, workers,
      [&](const AccRows<Simd> &to) { make(packed, conv, to); });
}

}  // namespace aqd
