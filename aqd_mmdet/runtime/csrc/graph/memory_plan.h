// Sizes of a program's tensors, and where they lie in memory.

#pragma once

#include "graph/run_order.h"

namespace aqd {

constexpr int64_t kCacheLine = 64;

inline int64_t whole_lines(int64_t bytes) {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

// Where the next line of a cache begins.
inline uint8_t *line_from(void *memory) {
  const uintptr_t line = static_cast<uintptr_t>(kCacheLine);
  const uintptr_t start = reinterpret_cast<uintptr_t>(memory) + line - 1;
  return reinterpret_cast<uint8_t *>(start / line * line);
}

constexpr size_t kArena = SIZE_MAX;

// Where the tensors of a program lie for one size of its input and one order:
// in an arena, or in an output that is not yet made or no longer read. The
// caller's memory for that output is their donor.
struct Plan {
  Size input;
  std::vector<Size> sizes;
  std::vector<int64_t> offsets;
  std::vector<size_t> donors;  // positions of outputs, or kArena
  int64_t peak = 0;         // bytes of the arena
  int64_t scratch = 0;  // bytes that a thread needs for the largest operator
};

struct Isa;

// Finds the sizes of all tensors. Returns whether the program takes an input of
// this size.
bool infer_sizes(const Program &program, Size input, std::vector<Size> *sizes);

// Returns whether the program takes an input of this size.
bool make_plan(const Program &program, const RunOrder &order, const Isa &isa,
               Size input, Plan *plan);

}  // namespace aqd
