// Packing: chooses an algorithm for each convolution, and brings weights into
// the order in which its kernel reads them, when a model is loaded.

#pragma once

#include "graph/memory_plan.h"
#include "kernels/isa.h"

namespace aqd {

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

PackedRequantize pack_requantize(const SimdShape &shape, const Op &op);

void pack_program(const Isa &isa, Program *program);

// Bytes that a thread needs for the fused operator of a root.
int64_t scratch_bytes(const SimdShape &shape, const Program &program,
                      size_t position, const Plan &plan);

}  // namespace aqd
