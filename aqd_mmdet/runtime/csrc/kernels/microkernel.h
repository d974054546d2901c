// The inner loop of all GEMMs by multiply-accumulates (simd.h): MR pixels x NR
// vectors of output channels are accumulated in registers. A step of K loads NR
// vectors of weights and broadcasts four bytes of each pixel. A file that
// includes this defines AQD_TARGET.

#pragma once

#include <cstdint>

#include "kernels/simd.h"

namespace aqd {

// Accumulators of MR pixels and NR vectors, in registers.
template <class Mac, int MR, int NR>
using AccRegisters = typename Mac::Acc[NR][MR];

// So many steps of K. Pixels (or Winograd tiles) are `pixel_step` bytes apart.
// Moves both pointers on.
template <class Simd, class Mac, int MR, int NR>
AQD_TARGET AQD_INLINE void accumulate(int64_t k_steps, int64_t pixel_step,
                                      const uint8_t *&codes,
                                      const int8_t *&weights,
                                      AccRegisters<Mac, MR, NR> &acc) {
  constexpr int64_t kBytes = 4 * Simd::kShape.lanes;
  const int8_t *end = weights + k_steps * NR * kBytes;
  for (; weights < end; codes += 4, weights += NR * kBytes) {
    typename Mac::Weights w[NR];
#pragma GCC unroll 8
    for (int v = 0; v < NR; ++v) w[v] = Mac::load(weights + v * kBytes);
#pragma GCC unroll 8
    for (int p = 0; p < MR; ++p) {
      const auto x = Mac::broadcast(codes + p * pixel_step);
#pragma GCC unroll 8
      for (int v = 0; v < NR; ++v) acc[v][p] = Mac::add(acc[v][p], x, w[v]);
    }
  }
}

// The microkernel for so many pixels and vectors, Kernels::get<MR, NR>().
template <class Kernels, int MR, int NR>
auto microkernel_for(int64_t pixels, int64_t vectors) {
  if constexpr (NR > 1) {
    if (vectors < NR) return microkernel_for<Kernels, MR, NR - 1>(pixels, vectors);
  }
  if constexpr (MR > 1) {
    if (pixels < MR) return microkernel_for<Kernels, MR - 1, NR>(pixels, vectors);
  }
  return Kernels::template get<MR, NR>();
}

}  // namespace aqd
