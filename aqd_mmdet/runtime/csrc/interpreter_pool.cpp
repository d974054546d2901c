#include "interpreter_pool.h"

#include <algorithm>

#ifdef AQD_HAS_THREADS
#include <unistd.h>
#endif

namespace aqd {

#ifdef AQD_HAS_THREADS

InterpreterPool::InterpreterPool(const Model &model, const Isa &isa,
                                 int threads)
    : model_(model), isa_(isa), threads_(threads),
      most_(std::max(threads_.threads(),
                     static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)))) {}

std::unique_ptr<Interpreter> InterpreterPool::take() {
  std::unique_ptr<Interpreter> taken;
  if (is_forked()) {
    taken.reset(spare_.exchange(nullptr));
    return taken;
  }
  std::unique_lock<std::mutex> lock(mutex_);
  if (threads_.callers() < most_) {
    threads_.enter();
  } else {
    Waiter self;
    waiters_.push_back(&self);
    self.turn.wait(lock, [&] { return self.is_called; });
    taken = std::move(self.interpreter);
  }
  if (taken == nullptr && !free_.empty()) {
    taken = std::move(free_.back());
    free_.pop_back();
  }
  return taken;
}

void InterpreterPool::give_back(std::unique_ptr<Interpreter> interpreter) {
  if (is_forked()) {
    delete spare_.exchange(interpreter.release());
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiters_.empty()) {
    threads_.leave();
    if (interpreter != nullptr) free_.push_back(std::move(interpreter));
    return;
  }
  // The turn passes to the caller that waits longest; no other can take it.
  Waiter &next = *waiters_.front();
  waiters_.pop_front();
  next.interpreter = std::move(interpreter);
  next.is_called = true;
  next.turn.notify_one();
}

void InterpreterPool::forget() {
  delete spare_.exchange(nullptr);
  // If another thread held the lock, the list may be half changed.
  if (!mutex_.try_lock()) return;
  free_.clear();
  mutex_.unlock();
}

#else

InterpreterPool::InterpreterPool(const Model &model, const Isa &isa,
                                 int threads)
    : model_(model), isa_(isa), threads_(threads) {}

std::unique_ptr<Interpreter> InterpreterPool::take() {
  return std::move(free_);
}

void InterpreterPool::give_back(std::unique_ptr<Interpreter> interpreter) {
  free_ = std::move(interpreter);
}

void InterpreterPool::forget() {}

#endif

}  // namespace aqd
