// All kernels for one Simd (simd.h): runs a fused operator by the algorithm
// that its weights were packed for.

#pragma once

#include <algorithm>

#include "kernels/conv_depthwise.h"
#include "kernels/conv_direct.h"
#include "kernels/conv_winograd.h"
#include "kernels/epilogue.h"

namespace aqd {

// Requantisations and additions that follow no convolution.
template <class Simd>
void run_elementwise(const FusedOp &fused, const Workers &workers) {
  const Epilogue<Simd> epilogue(fused);
  const int64_t rows = fused.size.height, width = fused.size.width;
  const int64_t parts = std::min(rows, 4 * int64_t{workers.threads()});
  const int64_t vectors = vectors_of(fused.channels, Simd::kShape.lanes);
  workers.run(parts, [&](int64_t part, uint8_t *) {
    AccTile<Simd> values;
    const int64_t end = rows * (part + 1) / parts;
    for (int64_t row = rows * part / parts; row < end; ++row) {
      for (int64_t c = 0; c < width; c += kTilePixels) {
        const int64_t pixels = std::min<int64_t>(kTilePixels, width - c);
        for (int64_t v = 0; v < vectors; ++v) {
          epilogue.run({row, c, static_cast<int>(pixels), v}, &values);
        }
      }
    }
  });
}

template <class Simd>
void run_fused(const FusedOp &fused, const Workers &workers) {
  const PackedConv *packed = fused.root().packed.conv;
  if (packed == nullptr) return run_elementwise<Simd>(fused, workers);
  if (const auto *direct = packed->get_if<PackedDirect>()) {
    return convolve_direct<Simd>(fused, *direct, workers);
  }
  if (const auto *depthwise = packed->get_if<PackedDepthwise>()) {
    return convolve_depthwise<Simd>(fused, *depthwise, workers);
  }
  if (const auto *winograd = packed->get_if<PackedWinograd>()) {
    return convolve_winograd<Simd>(fused, *winograd, workers);
  }
  Simd::run_other(fused, *packed, workers);
}

}  // namespace aqd
