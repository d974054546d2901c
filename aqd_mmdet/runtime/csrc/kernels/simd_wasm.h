// Kernels of WebAssembly's SIMD, with products of words.

#pragma once

#include "kernels/isa.h"

#ifdef __wasm_simd128__
#define AQD_HAS_WASM
#endif

namespace aqd {

extern const Isa kWasm;

}  // namespace aqd
