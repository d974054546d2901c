// Depthwise convolution, for any Simd (simd.h): each output channel reads one
// channel of the input, so that there is no reduction over channels, and lanes
// of the input meet lanes of the weights.

#pragma once

#include "kernels/epilogue.h"
#include "kernels/isa.h"
#include "kernels/padding.h"

namespace aqd {

// Accumulators of a vector of channels of one pixel. Lanes beyond the channels
// read the codes and weights that follow, and are not stored.
template <class Simd, class T>
AQD_TARGET inline void depthwise_pixel(const Window &window, int64_t channels,
                                       const T *codes, int64_t row_codes,
                                       const int8_t *weights,
                                       const int32_t *acc_init, int32_t *to) {
  typename Simd::Lanes acc = Simd::load(acc_init);
  for (int64_t v = 0; v < window.kernel.height; ++v) {
    const T *from = codes + v * window.dilation.height * row_codes;
    for (int u = 0; u < window.kernel.width; ++u) {
      acc += Simd::load(from) * Simd::load(weights);
      from += window.dilation.width * channels;
      weights += channels;
    }
  }
  Simd::store(acc, to);
}

template <class Simd, class T>
AQD_TARGET void depthwise_rows(const FusedOp &fused,
                               const Epilogue<Simd> &epilogue,
                               const PackedDepthwise &packed, const T *codes,
                               int64_t row_codes, RowRange rows) {
  const int8_t *weights = packed.weights.data()->bytes;
  constexpr int64_t kLanes = Simd::kShape.lanes;
  const Window &window = fused.conv().window;
  const int64_t channels = fused.channels;
  const int64_t step = window.stride.width * channels;
  AccTile<Simd> values;
  for (int64_t row = 0; row < rows.count; ++row) {
    const T *windows = codes + row * window.stride.height * row_codes;
    epilogue.run_row(rows.top + row, &values,
                     [&](const TileCoord &tile) AQD_TARGET {
      const int64_t channel = tile.vector * kLanes;
      for (int p = 0; p < tile.pixels; ++p) {
        depthwise_pixel<Simd>(window, channels,
                              windows + (tile.column + p) * step + channel,
                              row_codes, weights + channel,
                              packed.acc_init.data() + channel,
                              values.acc + p * kLanes);
      }
    });
  }
}

template <class Simd>
void convolve(const FusedOp &fused, const PackedDepthwise &packed,
              const Workers &workers) {
  const InputView view(fused.root(), *fused.x, packed.input);
  const Epilogue<Simd> epilogue(fused);
  const int64_t row_codes = view.row_bytes / packed.input.code_bytes();
  for_each_strip(
      fused, packed.input, view, workers, [&](const RowStrip &strip) {
        const auto run = [&](auto *codes) {
          depthwise_rows<Simd>(fused, epilogue, packed, codes, row_codes,
                               strip.rows);
        };
        if (packed.input.widen) {
          run(reinterpret_cast<const int16_t *>(strip.windows));
        } else if (fused.x->type == Type::kI8) {
          run(reinterpret_cast<const int8_t *>(strip.windows));
        } else {
          run(strip.windows);
        }
      });
}

}  // namespace aqd
