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
  const int64_t rows = fused.size.height;
  const int64_t parts = std::min(rows, 4 * int64_t{workers.threads()});
  workers.run(parts, [&](int64_t part, uint8_t *) AQD_TARGET {
    AccTile<Simd> values;
    const int64_t end = rows * (part + 1) / parts;
    for (int64_t row = rows * part / parts; row < end; ++row) {
      epilogue.run_row(row, &values, [](const TileCoord &) {});
    }
  });
}

// What is not for any Simd.
template <class Simd, class Packed>
void convolve(const FusedOp &fused, const Packed &packed,
              const Workers &workers) {
  Simd::convolve(fused, packed, workers);
}

template <class Simd>
void run_fused(const FusedOp &fused, const Workers &workers) {
  const PackedConv *conv = fused.root().packed.conv;
  if (conv == nullptr) return run_elementwise<Simd>(fused, workers);
  std::visit(
      [&](const auto &packed) { convolve<Simd>(fused, packed, workers); },
      conv->weights);
}

}  // namespace aqd
