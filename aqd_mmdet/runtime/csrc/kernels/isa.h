// Kernels for a set of vector instructions.

#pragma once

#include "graph/memory_plan.h"
#include "kernels/reference.h"
#include "thread_pool.h"

namespace aqd {

// Kernels of one set. What they do not prepare is left to portable ones.
struct Isa {
  const char *name;  // in AQD_ISA
  bool (*is_there)();
  // Makes what its kernels read and says by Op::is_packed which heads of
  // groups it runs.
  void (*prepare)(Program *program);
  // Bytes that a thread needs beside tensors for a group that it runs.
  int64_t (*scratch)(const Program &program, int position, const Plan &plan);
  // Runs a group; there is scratch for each thread, so many bytes apart.
  void (*run_group)(const Group &group, uint8_t *scratch, int64_t step,
                    ThreadPool *pool);
};

// Returns the set that AQD_ISA names, or the best that this machine has; null
// and what is wrong if there is none of that name.
const Isa *choose_isa(std::string *message);

}  // namespace aqd
