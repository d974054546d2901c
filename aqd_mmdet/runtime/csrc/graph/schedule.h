// In which order operators run, and which of them run together.

#pragma once

#include "graph/program.h"

namespace aqd {

// A fused operator has at most so many, so that what they make of a few codes
// stays in the fastest memory; networks have about five.
constexpr size_t kMaxFused = 16;

// Whether an operator can be the root of a fused one.
bool can_be_root(const Op &op);

// What reads each operator.
std::vector<std::vector<int>> readers_of(const Program &program);

// Moves max-pools of an image's convolution in front of the requantisations of
// its accumulators, which keep the order of numbers. (A negative multiplier
// reverses it; the weights of that channel then change their signs.) The largest
// tensors of many networks are then never made. Returns which operators nothing
// reads any more (hoist.cpp).
std::vector<bool> hoist_max_pools(Program *program);

// Brings operators into an order in which what is added to the accumulators of a
// convolution is there before it runs. Drops some operators (order.cpp).
void reorder(Program *program, const std::vector<bool> &is_dropped);

// Lets convolutions and elementwise operators take along the elementwise ones
// that follow them, so that accumulators need no memory (fuse.cpp).
void fuse(Program *program);

// All three.
void schedule(Program *program);

}  // namespace aqd
