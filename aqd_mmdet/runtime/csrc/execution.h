// A program that is planned for a size of its input, ready to run.

#pragma once

#include "graph/memory_plan.h"
#include "kernels/isa.h"
#include "thread_pool.h"

namespace aqd {

class Execution {
 public:
  Execution() = default;
  Execution(const Execution &) = delete;
  Execution &operator=(const Execution &) = delete;

  // Plans a program, if it is not planned for this size. Returns whether it
  // takes an input of this size. The program and the set must live on.
  bool prepare(const Program &program, const Isa &isa, Size input);

  const Plan &plan() const { return plan_; }

  // Bytes of memory that a run on so many threads needs.
  int64_t memory(int threads) const {
    return plan_.peak + plan_.scratch * threads + kSlack;
  }

  // Runs it on inputs, one after the other. The memory begins with a line of
  // the cache.
  void run(const void *inputs, int32_t count, int32_t *const *outputs,
           uint8_t *memory, ThreadPool *pool);

 private:
  // A root with its post-ops, or an operator that is not fused.
  struct Step {
    const Node *node;
    FusedOp fused;                       // of a root
    std::vector<const Tensor *> inputs;  // of another one
    const Tensor *output;
  };

  Step step_of(size_t position) const;
  FusedOp fused_op(const Node &root) const;
  const Node &node(size_t position) const { return program_->nodes[position]; }
  const Tensor *tensor(size_t position) const { return &tensors_[position]; }
  void place_outputs(size_t image, int32_t *const *outputs);

  const Program *program_ = nullptr;
  const Isa *isa_ = nullptr;
  Plan plan_;
  Tensor given_;                 // what the first operator reads
  std::vector<Tensor> tensors_;  // of all operators
  std::vector<Step> steps_;      // with pointers to tensors
};

}  // namespace aqd
