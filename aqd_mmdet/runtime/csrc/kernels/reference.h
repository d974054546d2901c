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

// An operator of a group, which is run for a few codes at a time.
struct Stage {
  // What an input is: the codes that an earlier stage made, or a tensor's.
  struct Input {
    int stage = 0;
    const Tensor *tensor = nullptr;
  };

  const Op *op = nullptr;
  Input inputs[2];
  const Tensor *out = nullptr;  // null if nothing outside the group reads it
};

// Operators of one position: a convolution, or what follows one code by code;
// then followers. All have outputs of one size.
struct Group {
  const Tensor *x = nullptr;  // a convolution's input
  std::vector<Stage> stages;
  Size size;
  int32_t channels = 0;

  const Op &op() const { return *stages[0].op; }
  bool is_convolution() const { return op().kind == Kind::kConvolution; }
};

// A tile of a group's output, for which stages run at once: some pixels of a
// row, and a vector of channels.
struct TileCoord {
  int64_t row, column;
  int pixels;
  int64_t vector;
};

// Runs a group.
void run_group(const Group &group);

// Runs an operator that is not of a group. Inputs and output have the sizes
// that a plan gives; the input of the first one is what the program is given.
void run_op(const Op &op, const Tensor *const *inputs, const Tensor &output,
            ThreadPool *pool);

// Codes as int32.
void widen(const Tensor &x, int32_t *out);

}  // namespace aqd
