// Threads that divide the rows of an operator among them.

#pragma once

#include <cstdint>

#if (defined(__unix__) || defined(__APPLE__) || defined(_WIN32)) && \
    !defined(__wasi__)
#define AQD_HAS_THREADS
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include <pthread.h>
#include <sys/types.h>
#endif

namespace aqd {

#ifdef AQD_HAS_THREADS

// A thread pool that several callers use at a time. Each call of run is a job
// of parts, and each part is done once. The caller works at its own job. Idle
// workers join any job that has parts left, as long as callers and busy workers
// together are no more than the pool's threads.
class ThreadPool {
 public:
  // So many threads, the caller's included; fewer if the system has no more.
  explicit ThreadPool(int threads);
  ~ThreadPool();

  // Called before the first run of a caller, and after its last one. Callers
  // beyond the most wait for their turn, first come, first served.
  void enter();
  void leave();
  // As many as there are threads, or processors, if these are more.
  int most_callers() const { return most_callers_; }

  // Calls work(part, thread) for all parts below a count, and returns when all
  // are done. The thread is 0 for the caller, and a worker's own number.
  template <typename Work>
  void run(int64_t parts, const Work &work) {
    run(parts, [](const void *context, int64_t part, int thread) {
      (*static_cast<const Work *>(context))(part, thread);
    }, &work);
  }

  // Whether this is a copy in a forked process, which has no workers. It must
  // not be destroyed there, and its lock may be held for ever.
  bool is_forked() const;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

 private:
  using Call = void (*)(const void *context, int64_t part, int thread);

  // A call of run. It lies on the caller's stack; the caller waits for the
  // workers that joined it, and for no others.
  //
  // A thread begins with the same share of the parts in each job, and goes on
  // with what others left: what it wrote of an operator's output is in its
  // cache when it reads that for the next operator.
  class Job {
   public:
    Job(Call call, const void *context, int64_t parts, int threads);
    bool has_parts() const;
    void take_parts(int thread);

    // Workers at it. It is changed under the lock and read without it.
    std::atomic<int> workers{0};

   private:
    static constexpr int kMaxShares = 32;
    // On a cache line of its own: one thread takes most of its parts.
    struct alignas(64) Share {
      std::atomic<int64_t> next{0};
      int64_t end = 0;
    };

    const Call call_;
    const void *const context_;
    const int count_;  // of shares
    Share shares_[kMaxShares];
  };

  // A caller that waits for its turn. It lies on that caller's stack.
  struct Waiter {
    std::condition_variable turn;
    bool is_called = false;
  };

  // Whether there are as many callers as threads, so that no worker may join.
  bool is_full() const { return callers_ >= threads(); }
  void run(int64_t parts, Call call, const void *context);
  // The job that a worker joins, or null. The lock is held.
  Job *find_job() const;
  static void *work(void *pool);

  std::vector<pthread_t> workers_;
  const pid_t owner_;
  int most_callers_;
  std::atomic<int> callers_{0};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  // How many jobs there were, and whether workers should end. They are changed
  // under the lock and read without it.
  std::atomic<uint64_t> round_{0};
  std::atomic<bool> stop_{false};
  int started_ = 0;  // workers that took their number
  int busy_ = 0;     // workers at a job
  std::vector<Job *> jobs_;
  std::deque<Waiter *> waiters_;
};

#else

// Where the platform has no threads: all work is the caller's.
class ThreadPool {
 public:
  explicit ThreadPool(int) {}

  template <typename Work>
  void run(int64_t parts, const Work &work) {
    for (int64_t part = 0; part < parts; ++part) work(part, 0);
  }

  void enter() {}
  void leave() {}
  int most_callers() const { return 1; }
  bool is_forked() const { return false; }
  int threads() const { return 1; }
};

#endif

}  // namespace aqd
