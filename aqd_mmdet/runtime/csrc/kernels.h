// One function for each operator: docs/integer_contract.md, section 3.

#pragma once

#include "program.h"

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

// Runs an operator. Inputs and output have the sizes that output_size and
// fits give; the input of the first operator is what the program is given.
void run_op(const Op &op, const Tensor *const *inputs, const Tensor &output);

// Runs a convolution; its sums go through a requantisation if there is one.
void convolve(const Op &op, const Op *requantize, const Tensor &x,
              const Tensor &out);

// What the program is given, channels outermost, to channels innermost.
void to_inner(const Tensor &x, const Tensor &out);

// Codes of an output in int32, to channels outermost.
void to_outer(const Tensor &x, int32_t *out);

}  // namespace aqd
