// Convolutions by the products of bytes and words of AVX-512 VNNI, and by
// those of tiles of AMX.

#pragma once

#include "kernels/isa.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define AQD_HAS_AVX512
#endif

namespace aqd {

extern const Isa kAvx512, kAmx;

}  // namespace aqd
