// What an operator of a program costs, as it is executed.

#pragma once

#include <vector>

#include "kernels/fused_op.h"

namespace aqd {

// An operator as it is executed: a root with its post-ops, or one that is not
// fused.
struct Step {
  const Node *node;
  FusedOp fused;                       // of a root
  std::vector<const Tensor *> inputs;  // of another one
  const Tensor *output;
};

struct OpProfile {
  const Step *step;
  const char *kind;          // of its kernel, as aqd.h lists them
  int64_t nanoseconds = 0;
  int64_t macs = 0;          // of a convolution, as the contract writes it
  int64_t products = 0;      // that its algorithm needs
  int32_t operand_bits = 0;  // of these
  int64_t bytes = 0;         // read and written, each of them once
};

// All but the time.
OpProfile profile_of(const Step &step);

// The time from some start on, in nanoseconds; 0 without a clock.
int64_t now();

}  // namespace aqd
