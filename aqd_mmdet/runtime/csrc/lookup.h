// Convolutions of two-bit codes by table lookup.

#pragma once

#include "avx512.h"

#ifdef AQD_HAS_AVX512

namespace aqd {

// Whether this machine looks up 64 bytes at once (VBMI).
bool has_lookup();

// Makes what the convolution reads, if it is one of two-bit codes and has a
// window that is one or three codes wide; otherwise returns false.
bool prepare_lookup(Op *op, const Op &x);

// Bytes that a thread needs.
int64_t scratch_of_lookup(const Op &op);

void convolve_lookup(const Group &group, uint8_t *scratch, int64_t step,
                     Pool *pool);

}  // namespace aqd

#endif
