// Runs the programs of a model.

#pragma once

#include <atomic>
#include <memory>

#include "format/model.h"
#include "kernels/isa.h"
#include "profile.h"

namespace aqd {

// What became of a call, by the numbers of the C API.
enum Status { kOk = 0, kBadFile = 1, kBadInput = 2, kNoMemory = 3 };

class Execution;

// Memory that is used again for the next image.
class Buffer {
 public:
  // Returns so many bytes, which begin with a line of the cache, or null if
  // there is no memory.
  uint8_t *get(int64_t bytes);

 private:
  std::unique_ptr<uint8_t[]> data_;
  int64_t bytes_ = 0;
};

// Runs the programs of a model for one call at a time, and is this call's
// workspace: it has all that a call writes, but for what the caller gave. What
// it runs is shared by all calls.
class Interpreter {
 public:
  Interpreter(const Model &model, const Isa &isa, ThreadPool *pool);
  ~Interpreter();

  const Model &model() const { return model_; }
  ThreadPool *pool() const { return &pool_; }
  Buffer *image() { return &image_; }
  Buffer *maps() { return &maps_; }

  // The channels and size of an output for an input's size; null if the program
  // does not take this size.
  const Tensor *output(size_t program, size_t index, Size input);

  // Runs of the network what its choice needs (graph/run_order.h), on an image.
  Status begin(const void *image, Size size, int32_t *const *outputs);
  // Runs the rest of it. wanted: the pixels of each output; null for all.
  void finish(const std::vector<const PixelSet *> &wanted);

  // Runs a program on inputs of one size, each after the other. If a profile is
  // wanted, it is of all operators in their order; it lives until the program
  // is planned for another size.
  Status run(size_t program, const void *inputs, int32_t count, Size size,
             int32_t *const *outputs,
             std::vector<OpProfile> *profile = nullptr);

 private:
  const Model &model_;
  ThreadPool &pool_;
  std::vector<Execution> executions_;  // the last of each program
  std::unique_ptr<Execution> choosing_;  // of the network
  Buffer arena_;  // a program's tensors, and what threads need
  Buffer image_;  // of the network
  Buffer maps_;   // what leaves the network
};

// The interpreters of a model. There are as many as calls that ever ran at a
// time. It has no lock, which could be held for ever in a forked process.
class InterpreterPool {
 public:
  InterpreterPool(const Model &model, const Isa &isa, ThreadPool *pool)
      : model_(model), isa_(isa), pool_(*pool),
        free_(static_cast<size_t>(pool->most_callers())) {}
  ~InterpreterPool() {
    for (const std::atomic<Interpreter *> &each : free_) delete each.load();
  }

  // Waits for a turn, and calls work(interpreter), which returns a status.
  template <typename Work>
  Status run(const Work &work) {
    pool_.enter();
    Interpreter *taken = take();
    const Status status = taken == nullptr ? kNoMemory : work(taken);
    give_back(taken);
    pool_.leave();
    return status;
  }

 private:
  // Returns one that is free, or a new one; null if there is no memory.
  Interpreter *take();
  void give_back(Interpreter *interpreter);

  const Model &model_;
  const Isa &isa_;
  ThreadPool &pool_;
  // Those that are free. The first are used most: their plans and memory are
  // likely to fit.
  std::vector<std::atomic<Interpreter *>> free_;
};

// Lets a set of instructions prepare the programs. Then they never change.
void prepare(const Isa &isa, Model *model);

}  // namespace aqd
