#include "thread_pool.h"

#ifdef AQD_HAS_THREADS

#include <algorithm>
#include <thread>

#include <unistd.h>

#include "kernels/rounding.h"

namespace aqd {
namespace {

// How often a thread looks for work before it sleeps: some tens of
// microseconds, which is what it costs to wake it.
constexpr int kSpins = 2000;

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

template <typename Done>
void spin(const Done &done) {
  for (int i = 0; i < kSpins && !done(); ++i) pause();
}

}  // namespace

ThreadPool::ThreadPool(int threads) : owner_(getpid()) {
  // Workers wait for the lock until all of them are there.
  const std::lock_guard<std::mutex> lock(mutex_);
  workers_.reserve(threads > 1 ? static_cast<size_t>(threads - 1) : 0);
  for (int i = 1; i < threads; ++i) {
    pthread_t worker;
    // Fewer threads give the same results.
    if (pthread_create(&worker, nullptr, work, this) != 0) break;
    workers_.push_back(worker);
  }
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  most_callers_ = std::max(this->threads(), processors);
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  for (const pthread_t worker : workers_) pthread_join(worker, nullptr);
}

bool ThreadPool::is_forked() const { return getpid() != owner_; }

void ThreadPool::enter() {
  if (is_forked()) return;
  std::unique_lock<std::mutex> lock(mutex_);
  if (callers_ < most_callers_) {
    ++callers_;
    return;
  }
  Waiter self;
  waiters_.push_back(&self);
  self.turn.wait(lock, [&] { return self.is_called; });
}

void ThreadPool::leave() {
  if (is_forked()) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiters_.empty()) {
    --callers_;
    return;
  }
  // The turn passes to the caller that waits longest; no other can take it.
  Waiter &next = *waiters_.front();
  waiters_.pop_front();
  next.is_called = true;
  next.turn.notify_one();
}

void ThreadPool::run(int64_t parts, Call call, const void *context) {
  if (parts < 2 || is_full() || is_forked()) {
    for (int64_t part = 0; part < parts; ++part) call(context, part, 0);
    return;
  }
  Job job(call, context, parts, threads());
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    jobs_.push_back(&job);
    ++round_;
  }
  wake_.notify_all();
  job.take_parts(0);
  spin([&] { return job.workers == 0; });
  std::unique_lock<std::mutex> lock(mutex_);
  jobs_.erase(std::find(jobs_.begin(), jobs_.end(), &job));
  done_.wait(lock, [&] { return job.workers == 0; });
}

ThreadPool::Job::Job(Call call, const void *context, int64_t parts, int threads)
    : call_(call), context_(context), count_(std::min(threads, kMaxShares)) {
  for (int i = 0; i < count_; ++i) {
    shares_[i].next = parts * i / count_;
    shares_[i].end = parts * (i + 1) / count_;
  }
}

bool ThreadPool::Job::has_parts() const {
  return std::any_of(shares_, shares_ + count_, [](const Share &share) {
    return share.next < share.end;
  });
}

void ThreadPool::Job::take_parts(int thread) {
  for (int i = 0; i < count_; ++i) {
    Share &share = shares_[(thread + i) % count_];
    for (int64_t part = share.next++; part < share.end; part = share.next++) {
      call_(context_, part, thread);
    }
  }
}

ThreadPool::Job *ThreadPool::find_job() const {
  Job *found = nullptr;
  if (callers_ + busy_ >= threads()) return found;
  for (Job *job : jobs_) {
    if (!job->has_parts()) continue;
    if (found == nullptr || job->workers < found->workers) found = job;
  }
  return found;
}

void *ThreadPool::work(void *pool) {
  ThreadPool &self = *static_cast<ThreadPool *>(pool);
  const RoundsDown scope;
  std::unique_lock<std::mutex> lock(self.mutex_);
  const int thread = ++self.started_;
  while (!self.stop_) {
    if (Job *job = self.find_job()) {
      ++self.busy_;
      ++job->workers;
      lock.unlock();
      job->take_parts(thread);
      lock.lock();
      --self.busy_;
      // The job lives until its caller gets the lock.
      if (--job->workers == 0) self.done_.notify_all();
      continue;
    }
    const uint64_t seen = self.round_;
    const auto is_called = [&] { return self.stop_ || self.round_ != seen; };
    lock.unlock();
    // Sleep at once if callers use all cores.
    spin([&] { return is_called() || self.is_full(); });
    lock.lock();
    self.wake_.wait(lock, is_called);
  }
  return nullptr;
}

}  // namespace aqd

#endif
