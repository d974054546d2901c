// The operators of a fused one as the steps of an epilogue (epilogue.h).

#pragma once

#include <vector>

#include "graph/program.h"
#include "kernels/reference.h"
#include "kernels/requantize.h"

namespace aqd {

// Values that a tile may need at a time.
constexpr int kEpilogueBuffers = static_cast<int>(kMaxFused) + 2;

// What one operator does, ready to run for a tile.
struct EpilogueStep {
  // From a buffer or a tensor, which is loaded into the buffer first.
  struct Input {
    const Tensor *tensor = nullptr;
    int buffer = 0;
  };

  enum class Kind { kAccumulators, kRequantize, kAdd, kUpsample };

  Kind kind = Kind::kAccumulators;
  const Op *op = nullptr;
  const PackedRequantize *packed = nullptr;
  Input inputs[2];
  int buffer = 0;               // of what it makes
  const Tensor *out = nullptr;  // where that is stored; null if it is not
  bool is_streamed = false;
  bool is_stored_only = false;  // no later step reads it
  // Of an upsampling: where it reads, by row and column of its output.
  std::vector<int64_t> rows, columns;
};

// The steps of a fused operator, in their order.
std::vector<EpilogueStep> epilogue_steps(const FusedOp &fused, int lanes);

}  // namespace aqd
