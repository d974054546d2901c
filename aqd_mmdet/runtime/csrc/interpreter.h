// Runs the programs of a model in a workspace.

#pragma once

#include "format/model.h"
#include "kernels/isa.h"
#include "thread_pool.h"
#include "workspace.h"

namespace aqd {

// What became of a call, by the numbers of the C API.
enum class Status { kOk = 0, kBadFile = 1, kBadInput = 2, kNoMemory = 3 };

// Lets a set of instructions prepare the programs. Then they never change.
void prepare(const Isa &isa, Model *model);

// One for each call. What it runs is shared by all calls; what it writes is its
// workspace and what the caller gave.
class Interpreter {
 public:
  Interpreter(const Model &model, const Isa &isa, ThreadPool *pool,
              Workspace *workspace)
      : model_(model), isa_(isa), pool_(*pool), workspace_(*workspace) {}

  const Model &model() const { return model_; }
  ThreadPool *pool() const { return &pool_; }
  Workspace &workspace() const { return workspace_; }

  // Channels, height and width of an output for an input's size.
  Status output_shape(size_t program, size_t output, Size input,
                      int32_t shape[3]) const;

  // Runs a program on inputs of one size, each after the other.
  Status run(size_t program, const void *inputs, int32_t count, Size size,
             int32_t *const *outputs) const;

 private:
  // The program, planned for an input's size; null if it does not take it.
  Execution *execution_of(size_t program, Size size) const;

  const Model &model_;
  const Isa &isa_;
  ThreadPool &pool_;
  Workspace &workspace_;
};

}  // namespace aqd
