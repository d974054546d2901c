// Kernels of AVX2, and of AVX-VNNI where bytes are multiplied as they are.

#pragma once

#include "kernels/isa.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define AQD_HAS_AVX2
#endif

namespace aqd {

extern const Isa kAvxVnni, kAvx2;

}  // namespace aqd
