// Convolutions of codes of two bits, or three, by table lookup.

#pragma once

#include "kernels/simd_avx512.h"

#ifdef AQD_HAS_AVX512

namespace aqd {

// Whether this machine looks up 64 bytes at once (VBMI).
bool has_lookup();

// Makes what the convolution reads, if its codes and weights are of two bits,
// or of three where that pays, and its window is one or three codes wide;
// otherwise returns false.
bool prepare_lookup(Node *node, const Node &x);

// Bytes that a thread needs.
int64_t scratch_of_lookup(const Node &node, int64_t channels);

void convolve_lookup(const FusedOp &fused, uint8_t *scratch, int64_t step,
                     ThreadPool *pool);

}  // namespace aqd

#endif
