// In which order operators run, and which of them run together.

#pragma once

#include "graph/program.h"

namespace aqd {

// A group has at most so many operators, so that what they make of a few
// codes stays in the fastest memory; networks have about five.
constexpr size_t kMaxGroup = 16;

// Whether an operator can be the first of a group.
bool can_lead(const Op &op);

// Pools an image's convolution before its sums are rounded, where max-pools
// follow the rounding: a sum that is not less is not less when it is rounded,
// or not more, for negative multipliers, whose weights change their sign. The
// largest tensors of many networks are then never made.
//
// Brings operators into an order in which what is added to a convolution's
// sums is there before the convolution runs, and lets it take along the
// operators that follow it code by code: its sums need no memory then.
void schedule(Program *program);

}  // namespace aqd
