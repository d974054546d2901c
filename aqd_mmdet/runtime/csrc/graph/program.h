// A program as it is run: operators, how they are fused, what kernels read.

#pragma once

#include <list>

#include "graph/ops.h"
#include "kernels/packed.h"

namespace aqd {

// An operator and how it is run.
struct Node {
  Op op;

  // What fusion adds (schedule.h). A node is a root, or a post-op of one.
  int root = 0;               // position of its root, its own one for a root
  std::vector<int> post_ops;  // positions, of a root
  // A max-pool of a convolution's accumulators, before they are rounded; the
  // kernel's height is 0 for none.
  Window pooling;
  bool is_stored = true;      // whether another fused operator reads it
  bool is_placed = true;      // false if it is written to the caller's memory
  int last_use = 0;           // position of the last root that reads it

  // What the instruction set prepares (kernels/packing.h).
  Packed packed;

  const Convolution &conv() const { return op.as<Convolution>(); }
  bool is_pooled() const { return pooling.kernel.height != 0; }
};

struct Program {
  std::vector<Weights> weights;
  std::vector<Node> nodes;
  std::vector<int> outputs;  // positions
  std::vector<int> levels;   // how many of these each kind of output has
  int32_t stride = 1;
  std::list<PackedConv> packed;  // of all nodes; convolutions share weights
};

}  // namespace aqd
