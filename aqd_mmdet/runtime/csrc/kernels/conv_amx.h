// Convolutions of bytes by the tiles of AMX.

#pragma once

#include "kernels/packing.h"
#include "kernels/reference.h"
#include "thread_pool.h"

namespace aqd {

// Whether the machine multiplies tiles of bytes and the system lets us.
bool has_amx();

void convolve_amx(const FusedOp &fused, const PackedAmx &packed,
                  uint8_t *scratch, int64_t step, ThreadPool *pool);

}  // namespace aqd
