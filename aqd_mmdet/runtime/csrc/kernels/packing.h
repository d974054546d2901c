// What kernels of short vectors prepare when a model is loaded; they run by
// conv_direct.h.

#pragma once

#include "graph/memory_plan.h"
#include "kernels/padding.h"
#include "kernels/reference.h"

namespace aqd {

// A set's vectors of 32-bit sums.
struct Vectors {
  int lanes;
  int together;  // vectors of output channels that a block makes
  // Whether numbers of 64 bits lie in the order of even lanes, then odd ones.
  bool even_first;
  // Of the bytes whose products with signed ones an instruction adds.
  int lowest;
};

// What values at points (winograd.h) had better be: bytes, numbers of 16 bits.
struct ValueTypes {
  bool bytes, words;
};

// The raw codes that a convolution reads: of an image its pixels.
struct Codes {
  Type type;
  Grid grid;
};

// Decides how a convolution reads bytes; codes of 16 bits are read as words.
using ReadBytes = Reading (*)(const Node &node, const Codes &codes);

// Makes what sums start from, as what is read exceeds the codes that it stands
// for; for whole vectors.
void set_start(int lanes, int32_t channels, Node *node);

// An image that convolutions alone read is not made: they read its bytes.
void drop_image(Program *program);

void prepare(const Vectors &vectors, const ValueTypes &types, ReadBytes read,
             Program *program);

int64_t scratch_of(const Vectors &vectors, const Program &program,
                   int position, const Plan &plan);

// The largest magnitude of a weight.
int largest_weight(const Weights &weights);

// How a convolution's input is read.
Source source_of(const Node &node, const Tensor &x);

// Bytes of one code as a convolution reads it.
int64_t bytes_read(const Node &node);

// Instructions for a run: a lane of each takes four bytes or two words.
int64_t steps_of(const Node &node, int64_t codes);

inline int64_t vectors_of(int64_t channels, int64_t lanes) {
  return (channels + lanes - 1) / lanes;
}

// Numbers of a vector's requantisation: multipliers and what is taken off the
// shifted values, of 32 bits; biases and shifts, of 64.
constexpr int table_size(int lanes) { return 3 * lanes; }

}  // namespace aqd
