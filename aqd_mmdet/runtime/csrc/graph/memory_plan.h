// Sizes of a program's tensors, and where they lie in memory.

#pragma once

#include "graph/program.h"

namespace aqd {

constexpr int64_t kCacheLine = 64;

inline int64_t whole_lines(int64_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

// Where the tensors of a program lie for one size of its input: in an arena, or
// in the memory of an output that the caller holds, until that is made.
struct Plan {
  Size input;
  std::vector<Size> sizes;
  std::vector<int64_t> offsets;
  std::vector<int> lenders;  // positions of outputs; -1 for the arena
  int64_t peak = 0;          // bytes of the arena
  int64_t scratch = 0;  // bytes that a thread needs for the largest operator
};

// Size of what a convolution or a max-pool makes of an input.
Size windowed(const Op &op, Size x);

struct Isa;

// Returns whether the program takes an input of this size.
bool make_plan(const Program &program, const Isa &isa, Size input, Plan *plan);

}  // namespace aqd
