// Fused operators, and portable kernels for them.

#pragma once

#include <vector>

#include "graph/program.h"
#include "kernels/tensor.h"
#include "thread_pool.h"

namespace aqd {

// An operator of a fused one, which is run for a few codes at a time.
struct PostOp {
  // What an input is: the codes of an earlier operator of the same fused one,
  // or a tensor's.
  struct Input {
    int index = 0;
    const Tensor *tensor = nullptr;
  };

  const Node *node = nullptr;
  Input inputs[2];
  const Tensor *out = nullptr;  // null if nothing else reads it

  const Op &op() const { return node->op; }
};

// A root, which is a convolution or an elementwise operator, and its post-ops.
// All have outputs of one size.
struct FusedOp {
  const Tensor *x = nullptr;  // a convolution's input
  std::vector<PostOp> ops;    // the root, then its post-ops
  Size size;
  int32_t channels = 0;

  const Node &root() const { return *ops[0].node; }
  bool is_convolution() const { return root().op.is<Convolution>(); }
  const Convolution &conv() const { return root().conv(); }
};

// A tile of a fused operator's output, for which post-ops run at once: some
// pixels of a row, and a vector of channels.
struct TileCoord {
  int64_t row, column;
  int pixels;
  int64_t vector;
};

void run_fused(const FusedOp &fused);

// Codes as int32.
void widen(const Tensor &x, int32_t *out);

}  // namespace aqd
