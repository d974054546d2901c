// One function for each operator: docs/integer_contract.md, section 3.

#pragma once

#include "program.h"

namespace aqd {

// A tensor of one image: channels x height x width codes, without gaps.
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

// Runs an operator. Inputs and output have the sizes that output_size and
// fits give; the input of the first operator is what the program is given.
void run_op(const Op &op, const Tensor *const *inputs, const Tensor &output);

// Copies codes into int32.
void widen(const Tensor &x, int32_t *out);

}  // namespace aqd
