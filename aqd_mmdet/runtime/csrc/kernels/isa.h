// The sets of vector instructions that an engine for this processor has kernels
// for, and packing: it chooses an algorithm for each convolution, and brings
// weights into the order in which its kernel reads them, when a model is loaded.

#pragma once

#include <vector>

#include "graph/memory_plan.h"
#include "kernels/fused_op.h"
#include "kernels/packed.h"

namespace aqd {

// What the packing of weights and multipliers depends on.
struct SimdShape {
  int lanes;  // int32 of a vector
  int nr;     // vectors of output channels of a microkernel
  // Whether products of 64 bits are those of the even lanes, then of the odd
  // ones, or of the lower lanes, then of the upper ones.
  bool even_first;
  int lowest_byte;  // of a ByteMac's input (simd.h): 0 or -128
  // By which MAC Winograd's products can be computed.
  bool winograd_bytes, winograd_words;
  bool short_bytes = false;  // accumulators of a ByteMac have 16 bits
  // Whether lines of tables (packed.h) are read as bytes.
  bool line_bytes = false;
};

// Kernels of one set. What they do not run is left to portable ones.
struct Isa {
  const char *name;  // as callers choose it
  bool (*is_there)();
  // Runs what pack_program prepared. Null for portable kernels,
  // which need nothing of what follows.
  void (*run_fused)(const FusedOp &fused, const Workers &workers);
  SimdShape shape;
  // Decides how bytes are read; codes of 16 bits are widened.
  InputFormat (*byte_format)(const Weights &weights, const Grid &codes);
  // Whether there are kernels for PackedLut (on machines with VBMI), or for
  // PackedAmx in place of all others for bytes.
  bool has_lut = false, has_amx = false;
  // Whether there are lookups of lines.
  bool has_lines = false;
  // Whether there are fused multiply-adds of floats.
  bool has_fma = false;
};

#if defined(__x86_64__) && defined(__GNUC__)
#define AQD_HAS_X86
extern const Isa kAvx512, kAvxVnni, kAvx2;
#endif

// The system has to be asked for it, each in its own way.
#if defined(AQD_HAS_X86) && defined(__linux__)
#define AQD_HAS_AMX
extern const Isa kAmx;
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

// The sets that this machine can run, the best first.
std::vector<const Isa *> available_isas();

constexpr int64_t kAmxSteps = 16;  // of K, in a tile of weights
constexpr int kAmxNr = 2;

// Vectors of output channels of the next block: NR, or one less if that leaves
// whole blocks of NR, as narrow microkernels leave the multipliers idle.
inline int64_t block_vectors(int64_t left, int64_t nr) {
  if (left <= nr) return left;
  return left % nr == 0 || nr < 3 ? nr : nr - 1;
}

// Formats (Isa::byte_format) for a ByteMac of unsigned bytes, and for machines
// without a ByteMac.
InputFormat unsigned_bytes(const Weights &weights, const Grid &codes);
InputFormat as_words(const Weights &weights, const Grid &codes);

PackedLookup pack_lookup(const SimdShape &shape, const Op &op, const Op &x);
PackedRequantize pack_requantize(const Isa &isa, const Op &op, const Op &x);

void pack_program(const Isa &isa, Program *program);

// Bytes that a thread needs for the fused operator of a root.
int64_t scratch_bytes(const SimdShape &shape, const Program &program,
                      size_t position, const Plan &plan);

}  // namespace aqd
