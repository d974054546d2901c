#include "pool.h"

#ifdef AQD_HAS_THREADS

#include <unistd.h>

namespace aqd {
namespace {

// How often a thread looks whether there is something to do before it sleeps:
// some tens of microseconds, as long as the system takes to wake it.
constexpr int kLooks = 2000;

inline void rest() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <typename Done>
void look(const Done &done) {
  for (int i = 0; i < kLooks && !done(); ++i) rest();
}

}  // namespace

Pool::Pool(int threads) : owner_(getpid()) {
  workers_.reserve(threads > 1 ? static_cast<size_t>(threads - 1) : 0);
  for (int i = 1; i < threads; ++i) {
    pthread_t worker;
    // With fewer threads it is slower, and that is all.
    if (pthread_create(&worker, nullptr, work, this) != 0) break;
    workers_.push_back(worker);
  }
}

Pool::~Pool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (const pthread_t worker : workers_) pthread_join(worker, nullptr);
}

bool Pool::is_forked() const { return getpid() != owner_; }

void Pool::run(int64_t parts, Call call, const void *context) {
  if (workers_.empty() || parts < 2 || is_forked()) {
    for (int64_t part = 0; part < parts; ++part) call(context, part, 0);
    return;
  }
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    call_ = call;
    context_ = context;
    parts_ = parts;
    next_ = 0;
    busy_ = workers_.size();
    ++round_;
  }
  wake_.notify_all();
  take_parts(0);
  look([this] { return busy_ == 0; });
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [this] { return busy_ == 0; });
}

void Pool::take_parts(int thread) {
  for (int64_t part = next_++; part < parts_; part = next_++) {
    call_(context_, part, thread);
  }
}

void *Pool::work(void *pool) {
  Pool &self = *static_cast<Pool *>(pool);
  uint64_t seen = 0;
  std::unique_lock<std::mutex> lock(self.mutex_);
  const int thread = ++self.started_;
  const auto is_called = [&] { return self.stop_ || self.round_ != seen; };
  for (;;) {
    lock.unlock();
    look(is_called);
    lock.lock();
    self.wake_.wait(lock, is_called);
    if (self.stop_) return nullptr;
    seen = self.round_;
    lock.unlock();
    self.take_parts(thread);
    lock.lock();
    if (--self.busy_ == 0) self.done_.notify_one();
  }
}

}  // namespace aqd

#endif
