// The instruction sets that an engine for this processor has kernels for.

#pragma once

#include "kernels/isa.h"

namespace aqd {

#if defined(__x86_64__) && defined(__GNUC__)
#define AQD_HAS_AVX512
extern const Isa kAmx, kAvx512;

#define AQD_HAS_AVX2
extern const Isa kAvxVnni, kAvx2;
#endif

// With products of bytes (dotprod, in most 64-bit ARMs since 2018).
#if defined(__aarch64__) && defined(__GNUC__)
#define AQD_HAS_NEON
extern const Isa kNeon;
#endif

#ifdef __wasm_simd128__
#define AQD_HAS_WASM
extern const Isa kWasm;
#endif

}  // namespace aqd
