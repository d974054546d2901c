// The inner loop of all GEMMs by multiply-accumulates (simd.h). A file that
// includes this defines AQD_TARGET.

#pragma once

#include "kernels/simd.h"

namespace aqd {

// Accumulators of MR pixels (or Winograd tiles) x NR vectors of output channels,
// in registers.
template <class Mac, int MR, int NR>
class Accumulators {
 public:
  // From int32 in memory, by the steps from a vector and a pixel to the next.
  AQD_TARGET AQD_INLINE void begin(const int32_t *from, int64_t vector_step,
                                   int64_t pixel_step) {
#pragma GCC unroll 8
    for (int v = 0; v < NR; ++v) {
#pragma GCC unroll 8
      for (int p = 0; p < MR; ++p) {
        acc_[v][p] = Mac::begin(from + v * vector_step + p * pixel_step);
      }
    }
  }

  AQD_TARGET AQD_INLINE void end(int32_t *to, int64_t vector_step,
                                 int64_t pixel_step) const {
#pragma GCC unroll 8
    for (int v = 0; v < NR; ++v) {
#pragma GCC unroll 8
      for (int p = 0; p < MR; ++p) {
        Mac::end(acc_[v][p], to + v * vector_step + p * pixel_step);
      }
    }
  }

  // So many steps of K: each loads NR vectors of weights and broadcasts four
  // bytes of each pixel. Pixels are `pixel_bytes` apart. Moves both pointers on.
  AQD_TARGET AQD_INLINE void add(int64_t k_steps, int64_t pixel_bytes,
                                 const uint8_t *&codes,
                                 const int8_t *&weights) {
    constexpr int64_t kBytes = sizeof(typename Mac::Operand);
    const int8_t *end = weights + k_steps * NR * kBytes;
    for (; weights < end; codes += 4, weights += NR * kBytes) {
      typename Mac::Operand w[NR];
#pragma GCC unroll 8
      for (int v = 0; v < NR; ++v) w[v] = Mac::load(weights + v * kBytes);
#pragma GCC unroll 8
      for (int p = 0; p < MR; ++p) {
        const auto x = Mac::broadcast(codes + p * pixel_bytes);
#pragma GCC unroll 8
        for (int v = 0; v < NR; ++v) acc_[v][p] = Mac::add(acc_[v][p], x, w[v]);
      }
    }
  }

 private:
  typename Mac::Acc acc_[NR][MR];
};

// The microkernel for so many pixels and vectors, Kernels::get<MR, NR>().
template <class Kernels, int MR, int NR>
auto microkernel_for(int64_t pixels, int64_t vectors) {
  if constexpr (NR > 1) {
    if (vectors < NR) {
      return microkernel_for<Kernels, MR, NR - 1>(pixels, vectors);
    }
  }
  if constexpr (MR > 1) {
    if (pixels < MR) {
      return microkernel_for<Kernels, MR - 1, NR>(pixels, vectors);
    }
  }
  return Kernels::template get<MR, NR>();
}

}  // namespace aqd
