// A program as it is run: operators, how they are fused, what kernels read.

#pragma once

#include <list>
#include <optional>

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
  size_t last_use = 0;    // position of the last root that reads it

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
  // The kind of output by which a detector chooses where it needs the others
  // (detect/scores.cpp). What this kind needs runs first, before a position.
  std::optional<size_t> choosing_kind;
  size_t choice_end = 0;  // the number of operators if nothing is chosen
  std::list<PackedConv> packed;  // of all nodes; convolutions share weights

  // The operator that makes an output.
  const Op &output(size_t index) const { return nodes[outputs[index]].op; }
  // The numbers of the outputs of a kind, from the first to before the last.
  std::pair<size_t, size_t> outputs_of(size_t kind) const;
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
