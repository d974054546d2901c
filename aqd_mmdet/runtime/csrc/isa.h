// Kernels for a set of vector instructions.

#pragma once

#include "kernels.h"
#include "pool.h"

namespace aqd {

// Kernels of one set. What they do not prepare is left to portable ones.
struct Isa {
  const char *name;  // in AQD_ISA
  bool (*is_there)();
  // Makes what its kernels read: Op::is_packed and Op::packed say where.
  void (*prepare)(Program *program);
  // Bytes that a packed convolution needs beside its tensors.
  int64_t (*scratch)(const Op &op, const Op &source, Size size);
  // Runs a packed convolution as `convolve` does.
  void (*convolve)(const Op &op, const Op *requantize, const Tensor &x,
                   const Tensor &out, uint8_t *scratch, Pool *pool);
  // Runs a packed requantisation.
  void (*requantize)(const Op &op, const Tensor &x, const Tensor &out,
                     Pool *pool);
};

// Returns the set that AQD_ISA names, or the best that this machine has; null
// and what is wrong if there is none of that name.
const Isa *choose_isa(std::string *message);

}  // namespace aqd
