// A program as it is run: operators, how they are fused, what kernels read.

#pragma once

#include <list>

#include "graph/ops.h"
#include "kernels/packed.h"

namespace aqd {

// A fused operator has at most so many, so that what they make of a few codes
// stays in the fastest memory; networks have about five.
constexpr size_t kMaxFused = 16;

// An operator and how it is run.
struct Node {
  Op op;

  // What fusion adds (schedule.cpp). A node is a root, or a post-op of one.
  size_t root = 0;              // position of its root, its own one for a root
  std::vector<size_t> members;  // of a root: its own position and its post-ops'
  // A max-pool of a convolution's accumulators, before they are rounded. The
  // kernel's height is 0 for none.
  Window pooling;
  bool is_stored = true;  // whether another fused operator reads it
  bool is_placed = true;  // false if it is written to the caller's memory

  // What the instruction set prepares (kernels/isa.h).
  Packed packed;

  const Convolution &conv() const { return op.as<Convolution>(); }
  bool is_pooled() const { return pooling.kernel.height != 0; }
};

struct Program {
  std::vector<Weights> weights;
  std::vector<int32_t> tables;  // of lookups
  std::vector<Node> nodes;
  std::vector<size_t> outputs;  // positions
  std::vector<size_t> levels;   // how many of these each kind of output has
  int32_t stride = 1;
  std::list<PackedConv> packed;  // of all nodes; convolutions share weights

  // The operator that makes an output.
  const Op &output(size_t index) const { return nodes[outputs[index]].op; }
  // Whether only one convolution has these weights of its own.
  bool are_private(const Weights &shared) const;
};

// Whether an operator can be the root of a fused one.
bool can_be_root(const Op &op);

// Lets convolutions of an image's space-to-depth layer read the image
// (space_to_depth.cpp).
void fold_space_to_depth(Program *program);

// Orders the operators of a program as they run, and fuses them.
void schedule(Program *program);

}  // namespace aqd
