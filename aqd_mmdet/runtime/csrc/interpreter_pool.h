// The interpreters and threads of a model, which several callers use at a time.

#pragma once

#include <new>

#include "interpreter.h"

#ifdef AQD_HAS_THREADS
#include <deque>
#endif

namespace aqd {

// At most as many calls run at a time as there are threads, or processors in the
// machine, if these are more. Others wait, first come, first served.
class InterpreterPool {
 public:
  InterpreterPool(const Model &model, const Isa &isa, int threads);
  InterpreterPool(const InterpreterPool &) = delete;
  InterpreterPool &operator=(const InterpreterPool &) = delete;

  // Waits for a turn, and calls work(interpreter), which returns a status.
  template <typename Work>
  Status run(const Work &work) {
    std::unique_ptr<Interpreter> taken = take();
    if (taken == nullptr) {
      taken.reset(new (std::nothrow) Interpreter(model_, isa_, &threads_));
    }
    const Status status =
        taken == nullptr ? Status::kNoMemory : work(taken.get());
    give_back(std::move(taken));
    return status;
  }

  // Whether this is a copy in a forked process. It must not be destroyed there,
  // which could wait for threads that the process does not have.
  bool is_forked() const { return threads_.is_forked(); }
  // Frees in a forked process what can be freed.
  void forget();

 private:
  // Returns the interpreter that was given back last, whose plans and memory
  // are likely to fit, or null if none is free.
  std::unique_ptr<Interpreter> take();
  // Ends the turn, even without an interpreter.
  void give_back(std::unique_ptr<Interpreter> interpreter);

  const Model &model_;
  const Isa &isa_;
  ThreadPool threads_;
#ifdef AQD_HAS_THREADS
  // A caller that waits for its turn. It lies on that caller's stack.
  struct Waiter {
    std::condition_variable turn;
    std::unique_ptr<Interpreter> interpreter;
    bool is_called = false;
  };

  const int most_;  // calls at a time
  std::mutex mutex_;
  std::vector<std::unique_ptr<Interpreter>> free_;
  std::deque<Waiter *> waiters_;
  // The free one of a forked process, where the lock may be held for ever.
  std::atomic<Interpreter *> spare_{nullptr};
#else
  std::unique_ptr<Interpreter> free_;
#endif
};

}  // namespace aqd
