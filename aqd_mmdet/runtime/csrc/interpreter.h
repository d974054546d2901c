// Runs the operators of a model's programs, in their order.

#pragma once

#include "format/model.h"
#include "kernels/isa.h"
#include "thread_pool.h"
#include "workspace.h"

namespace aqd {

// Makes what kernels of a set read of a model's programs; it never changes then.
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

  // Channels and size of an output for an input's size; gives a status.
  int output_shape(size_t program, size_t output, Size input,
                   int32_t shape[3]) const;

  // Runs a program on a batch of inputs of one size, each after the other;
  // gives a status.
  int run(size_t program, const void *input, int32_t count, Size size,
          int32_t *const *outputs) const;

 private:
  // The plan for an input's size, the last one if it is the same; null if the
  // program does not take it.
  const Plan *plan_of(size_t program, Size size) const;

  const Model &model_;
  const Isa &isa_;
  ThreadPool &pool_;
  Workspace &workspace_;
};

}  // namespace aqd
