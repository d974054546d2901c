// Packing: weights in the order in which a kernel reads them, which is made when
// a model is loaded. Each algorithm has its own type, so that a kernel cannot be
// given another's weights. docs/engine.md draws the layouts.

#pragma once

#include <variant>
#include <vector>

#include "graph/memory_plan.h"
#include "kernels/lut_pack.h"
#include "kernels/simd.h"
#include "kernels/winograd.h"

namespace aqd {

// How a kernel reads the input of a convolution.
struct InputFormat {
  bool widen = false;        // as 16 bits, whatever the type of the codes
  int zero_point_shift = 0;  // added to each code, so that bytes suit a ByteMac
  // Steps of K whose products accumulators of 16 bits hold; 0 for 32 bits.
  int64_t k_per_spill = 0;
  std::vector<int32_t> means;  // of an image's bytes, the zeros of its channels

  int code_bytes() const { return widen ? 2 : 1; }
  // Steps of K, of one MAC instruction each, for so many codes.
  int64_t k_steps(int64_t codes) const {
    return widen ? (codes + 1) / 2 : (codes + 3) / 4;
  }
  // What stands for zero in each channel.
  std::vector<int> zeros(int64_t channels) const;
  bool operator==(const InputFormat &other) const;
};

// A tensor that a convolution reads, as raw codes: of an image its bytes.
struct ConvInput {
  int64_t channels;
  Grid codes;
  const ImageOp *image;  // null for others
};

// Weights of a direct convolution: block of up to NR vectors of output channels,
// K segment, step of K, vector, lane, 4 bytes (or two numbers of 16 bits).
struct PackedDirect {
  InputFormat input;
  bool is_dilated;  // by columns, so that each tap is a segment
  std::vector<Line> weights;
  // Where accumulators start: the zero point compensation, by output channel.
  std::vector<int32_t> acc_init;
};

// The same for tiles of AMX: block of up to two vectors, segment, 16 steps of K,
// vector, step, lane, 4 bytes.
struct PackedAmx {
  InputFormat input;
  bool is_dilated;
  std::vector<Line> weights;
  std::vector<int32_t> acc_init;
};

constexpr int64_t kAmxSteps = 16;  // of K, in a tile of weights
constexpr int kAmxNr = 2;

// Weights of a depthwise convolution, as a file has them: tap, channel.
struct PackedDepthwise {
  InputFormat input;
  std::vector<Line> weights;  // and a line behind them, which may be read
};

struct PackedConv {
  std::variant<PackedDirect, PackedAmx, PackedDepthwise, PackedWinograd,
               PackedLut>
      weights;

  // The weights if they are for this algorithm, or null.
  template <class T>
  const T *get_if() const {
    return std::get_if<T>(&weights);
  }
};

// Vectors of output channels of the next block: NR, or one less if that leaves
// whole blocks of NR, as narrow microkernels leave the multipliers idle.
inline int64_t block_vectors(int64_t left, int64_t nr) {
  if (left <= nr) return left;
  return left % nr == 0 || nr < 3 ? nr : nr - 1;
}

// Kernels of an instruction set, as packing sees them.
struct KernelSet {
  SimdShape shape;
  // Decides how bytes are read; codes of 16 bits are widened.
  InputFormat (*byte_format)(const Weights &weights, const Grid &codes);
  bool has_lut = false;
  bool has_amx = false;
};

// For a ByteMac of unsigned bytes.
InputFormat unsigned_bytes(const Weights &weights, const Grid &codes);

int max_weight(const Weights &weights);

// Chooses an algorithm for each convolution and packs what it reads.
void pack_program(const KernelSet &set, Program *program);

// Bytes that a thread needs for the fused operator of a root.
int64_t scratch_bytes(const SimdShape &shape, const Program &program,
                      size_t position, const Plan &plan);

}  // namespace aqd
