// Direct convolution, for any Simd (simd.h). It is a GEMM of indirect rows: an
// output pixel reads a few contiguous segments of K, by their offsets, and a
// microkernel makes MR pixels x NR vectors of output channels in registers. All
// channels of a pixel meet the same four bytes of input, which one instruction
// broadcasts.

#pragma once

#include <algorithm>
#include <cstring>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/microkernel.h"
#include "kernels/packing.h"
#include "kernels/padding.h"
#include "kernels/tuning.h"
#include "thread_pool.h"

namespace aqd {

// What all microkernels of a convolution share.
struct DirectConv {
  KSegments segments;
  int64_t k_steps;         // of a segment
  const int64_t *offsets;  // of segments, in bytes
  int64_t pixel_step;      // bytes from an output pixel's window to the next
  int64_t k_per_spill;
};

// From int32 in memory, vector x pixel x lane, and to it.
template <class Simd, class Mac, int MR, int NR, int kStride>
AQD_TARGET AQD_INLINE void begin_acc(const int32_t (*from)[kStride],
                                     AccRegisters<Mac, MR, NR> &acc) {
#pragma GCC unroll 8
  for (int v = 0; v < NR; ++v) {
#pragma GCC unroll 8
    for (int p = 0; p < MR; ++p) {
      acc[v][p] = Mac::begin(from[v] + p * Simd::kShape.lanes);
    }
  }
}

template <class Simd, class Mac, int MR, int NR, int kStride>
AQD_TARGET AQD_INLINE void end_acc(const AccRegisters<Mac, MR, NR> &acc,
                                   int32_t (*to)[kStride]) {
#pragma GCC unroll 8
  for (int v = 0; v < NR; ++v) {
#pragma GCC unroll 8
    for (int p = 0; p < MR; ++p) {
      Mac::end(acc[v][p], to[v] + p * Simd::kShape.lanes);
    }
  }
}

// MR pixels x NR vectors of output channels, and their epilogue.
template <class Simd, class Mac, int MR, int NR>
AQD_TARGET void direct_microkernel(const DirectConv &conv, const int32_t *acc_init,
                            const uint8_t *codes, const int8_t *weights,
                            const Epilogue<Simd> &epilogue, TileCoord tile,
                            AccTile<Simd> *values) {
  constexpr int kLanes = Simd::kShape.lanes;
  // Whole groups of four pixels, as epilogues may read them.
  constexpr int kStride = (MR + 3) / 4 * 4 * kLanes;
  alignas(64) int32_t memory[NR][kStride];
  for (int v = 0; v < NR; ++v) {
    for (int p = 0; p < MR; ++p) {
      std::memcpy(memory[v] + p * kLanes, acc_init + v * kLanes, 4 * kLanes);
    }
  }
  AccRegisters<Mac, MR, NR> acc;
  begin_acc<Simd, Mac, MR, NR>(memory, acc);
  int64_t left = conv.k_per_spill;
  for (int64_t segment = 0; segment < conv.segments.count; ++segment) {
    const uint8_t *from = codes + conv.offsets[segment];
    if constexpr (!Mac::kIsShort) {
      accumulate<Simd, Mac, MR, NR>(conv.k_steps, conv.pixel_step, from,
                                    weights, acc);
      continue;
    }
    for (int64_t rest = conv.k_steps; rest > 0;) {
      const int64_t steps = left < rest ? left : rest;
      accumulate<Simd, Mac, MR, NR>(steps, conv.pixel_step, from, weights, acc);
      rest -= steps;
      left -= steps;
      if (left > 0) continue;
      left = conv.k_per_spill;
      end_acc<Simd, Mac, MR, NR>(acc, memory);
      begin_acc<Simd, Mac, MR, NR>(memory, acc);
    }
  }
  end_acc<Simd, Mac, MR, NR>(acc, memory);
  for (int v = 0; v < NR; ++v, ++tile.vector) {
    values->acc = memory[v];
    epilogue.run(tile, values);
  }
}

template <class Simd, class Mac>
struct DirectMicrokernels {
  template <int MR, int NR>
  static constexpr auto get() {
    return direct_microkernel<Simd, Mac, MR, NR>;
  }
};

// Rows of the output from one on.
template <class Simd, class Mac>
AQD_TARGET void direct_rows(const FusedOp &fused, const PackedDirect &packed,
                            const DirectConv &conv,
                            const Epilogue<Simd> &epilogue,
                            const uint8_t *windows, int64_t row_bytes,
                            RowRange rows) {
  using Kernels = DirectMicrokernels<Simd, Mac>;
  constexpr int kLanes = Simd::kShape.lanes, kNr = Simd::kShape.nr;
  const int8_t *weights = packed.weights.data()->bytes;
  const int64_t vectors = vectors_of(fused.channels, kLanes);
  const int64_t width = fused.size.width;
  const int64_t each = conv.segments.count * conv.k_steps * 4 * kLanes;
  const int64_t step = fused.conv().window.stride.height * row_bytes;
  AccTile<Simd> values;
  const bool is_cached = vectors * each <= kCachedWeightBytes;
  for (int64_t v = 0, end; v < vectors; v = end) {
    end = is_cached ? vectors : v + block_vectors(vectors - v, kNr);
    for (int64_t row = 0; row < rows.count; ++row) {
      for (int64_t c = 0; c < width; c += Simd::kMr) {
        const int64_t pixels = std::min<int64_t>(Simd::kMr, width - c);
        for (int64_t i = v, block; i < end; i += block) {
          block = block_vectors(vectors - i, kNr);
          const TileCoord tile = {rows.top + row, c, static_cast<int>(pixels), i};
          epilogue.prefetch(tile, block);
          const auto run =
              microkernel_for<Kernels, Simd::kMr, kNr>(pixels, block);
          run(conv, packed.acc_init.data() + i * kLanes,
              windows + row * step + c * conv.pixel_step, weights + i * each,
              epilogue, tile, &values);
        }
      }
    }
  }
}

// A row of the output of a convolution whose accumulators are pooled.
template <class Simd>
AQD_TARGET void pooled_row(const FusedOp &fused, const LineBuffer &buffer,
                           const Epilogue<Simd> &epilogue, int64_t row,
                           AccTile<Simd> *values) {
  constexpr int kLanes = Simd::kShape.lanes;
  values->acc = values->buffers[0];
  for (int64_t c = 0; c < fused.size.width; c += kTilePixels) {
    const int64_t rest = fused.size.width - c;
    const int pixels = static_cast<int>(rest < kTilePixels ? rest : kTilePixels);
    for (int64_t v = 0; v < vectors_of(fused.channels, kLanes); ++v) {
      pool_accumulators<kLanes>(fused, buffer, row, c, pixels, v * kLanes,
                                values->acc);
      epilogue.run({row, c, pixels, v}, values);
    }
  }
}

// Runs a convolution by strips of rows. `rows` makes rows of accumulators and
// runs their epilogue: (fused, epilogue, windows, row_bytes, RowRange).
template <class Simd, class Rows>
void convolve_strips(const FusedOp &fused, const InputFormat &format,
                     const InputView &view, uint8_t *scratch, int64_t step,
                     ThreadPool *pool, const Rows &rows) {
  const Epilogue<Simd> epilogue(fused);
  const auto work = [&](const RowStrip &strip) {
    if (fused.root().pooling.kernel.height == 0) {
      return rows(fused, epilogue, strip.windows, view.row_bytes,
                  RowRange{strip.top, strip.end - strip.top});
    }
    const LineBuffer buffer(fused, strip.line_buffer);
    const Epilogue<Simd> storing(buffer.conv);
    AccTile<Simd> values;
    for_each_pooled_row(
        fused, strip, view.row_bytes,
        [&](const uint8_t *windows, int64_t line) {
          rows(buffer.conv, storing, windows, view.row_bytes, RowRange{line, 1});
        },
        [&](int64_t row) {
          pooled_row(fused, buffer, epilogue, row, &values);
        });
  };
  for_each_strip(fused, format, view, scratch, step, pool, work);
}

template <class Simd>
void convolve_direct(const FusedOp &fused, const PackedDirect &packed,
                     uint8_t *scratch, int64_t step, ThreadPool *pool) {
  const InputFormat &format = packed.input;
  const InputView view(fused.root(), *fused.x, format);
  const KSegments segments(fused.conv(), fused.x->channels);
  const std::vector<int64_t> offsets =
      segments.offsets(fused.conv(), view.row_bytes, view.pixel_bytes);
  const DirectConv conv = {
      segments, format.k_steps(segments.codes), offsets.data(),
      fused.conv().window.stride.width * view.pixel_bytes, format.k_per_spill};
  convolve_strips<Simd>(
      fused, format, view, scratch, step, pool,
      [&](const FusedOp &each, const Epilogue<Simd> &epilogue,
          const uint8_t *windows, int64_t row_bytes, RowRange rows) {
        const auto make = format.widen
                              ? direct_rows<Simd, typename Simd::WordMac>
                              : direct_rows<Simd, typename Simd::ByteMac>;
        make(each, packed, conv, epilogue, windows, row_bytes, rows);
      });
}

}  // namespace aqd
