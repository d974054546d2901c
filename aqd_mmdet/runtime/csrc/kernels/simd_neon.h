// Kernels of NEON with products of bytes (dotprod, in most 64-bit ARMs since
// 2018).

#pragma once

#include "kernels/isa.h"

#if defined(__aarch64__) && defined(__GNUC__)
#define AQD_HAS_NEON
#endif

namespace aqd {

extern const Isa kNeon;

}  // namespace aqd
