// Kernels for a set of vector instructions.

#pragma once

#include "graph/memory_plan.h"
#include "kernels/reference.h"
#include "thread_pool.h"

namespace aqd {

// Kernels of one set. What they do not prepare is left to portable ones.
struct Isa {
  const char *name;  // as callers choose it
  bool (*is_there)();
  // Makes what its kernels read, and says by Packed::has_kernel which fused
  // operators it runs.
  void (*prepare)(Program *program);
  // Bytes that a thread needs beside tensors for a fused operator that it runs.
  int64_t (*scratch)(const Program &program, size_t position, const Plan &plan);
  // There is scratch for each thread, so many bytes apart.
  void (*run_fused)(const FusedOp &fused, uint8_t *scratch, int64_t step,
                    ThreadPool *pool);
};

// The sets that this machine can run, the best first.
std::vector<const Isa *> available_isas();

}  // namespace aqd
