// LUT convolutions (lut_tables.h) by the byte lookups of AVX-512 VBMI.

#pragma once

#include "kernels/lut_pack.h"
#include "kernels/reference.h"
#include "thread_pool.h"

namespace aqd {

// Whether this machine looks up 64 bytes at once.
bool has_lut();

void convolve_lut(const FusedOp &fused, const PackedLut &packed,
                  uint8_t *scratch, int64_t step, ThreadPool *pool);

}  // namespace aqd
