// One function for each operator: docs/integer_contract.md, section 3.

#pragma once

#include <vector>

#include "graph/program.h"
#include "thread_pool.h"

namespace aqd {

// A tensor of one image: height x width x channels codes, without gaps.
//
// Channels are innermost: what a convolution reads for one output is then a
// few long runs, and what it writes is one.
struct Tensor {
  void *data = nullptr;
  Type type = Type::kI32;
  int32_t channels = 0;
  Size size;

  size_t plane() const {
    return static_cast<size_t>(size.height) * static_cast<size_t>(size.width);
  }
  size_t count() const { return plane() * static_cast<size_t>(channels); }
};

// Memory behind a tensor that kernels may read, and ignore.
constexpr int64_t kSlack = 128;

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

// Runs an operator that is not of a fused one. Inputs and output have the sizes
// that a plan gives; the input of the first one is what the program is given.
void run_op(const Op &op, const Tensor *const *inputs, const Tensor &output,
            ThreadPool *pool);

// Codes as int32.
void widen(const Tensor &x, int32_t *out);

}  // namespace aqd
