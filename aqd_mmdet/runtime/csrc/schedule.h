// In which order operators run, and which of them run together.

#pragma once

#include "program.h"

namespace aqd {

// A group has at most so many operators, so that what they make of a few
// codes stays in the fastest memory; networks have about five.
constexpr size_t kMaxGroup = 16;

// Whether an operator can be the first of a group.
bool can_lead(const Op &op);

// Brings operators into an order in which what is added to a convolution's
// sums is there before the convolution runs, and lets it take along the
// operators that follow it code by code: its sums need no memory then.
void schedule(Program *program);

}  // namespace aqd
