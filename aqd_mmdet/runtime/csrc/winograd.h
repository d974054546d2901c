// Convolutions with windows of 3x3 by fewer products (Winograd), of integers.

#pragma once

#include "avx512.h"

#ifdef AQD_HAS_AVX512

#include "kernels.h"

namespace aqd {

// Makes what the convolution reads, if its window is 3x3 without steps or gaps
// and it is proven that nothing is cut off; otherwise returns false.
bool prepare_winograd(Op *op, const Op &x);

// Bytes that a thread needs.
int64_t scratch_of_winograd(const Op &op, int64_t channels);

void convolve_winograd(const Group &group, uint8_t *scratch, int64_t step,
                       Pool *pool);

}  // namespace aqd

#endif
