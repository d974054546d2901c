// A few threads that share the rows of an operator.

#pragma once

#include <cstdint>

#if (defined(__unix__) || defined(__APPLE__)) && !defined(__wasi__)
#define AQD_HAS_THREADS
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <vector>

#include <pthread.h>
#include <sys/types.h>
#endif

namespace aqd {

#ifdef AQD_HAS_THREADS

// A thread pool that several callers use at a time. What one of them wants done
// is a job of parts, and each part is done once. The caller works at its own
// job; idle workers join any job that has parts left, as long as there are no
// more of both than the pool has threads: the cores are then the callers'.
class ThreadPool {
 public:
  // As many threads as asked for or to be had, a caller's included.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool &) = delete;
  ThreadPool &operator=(const ThreadPool &) = delete;

  // A caller comes before its first run, and goes after its last one.
  void enter() { ++callers_; }
  void leave() { --callers_; }
  int callers() const { return callers_; }

  // Calls work(part, thread) for all parts below a count and returns when all
  // are done; of the threads at a job the caller's is 0, a worker's its own.
  template <typename Work>
  void run(int64_t parts, const Work &work) {
    run(parts, [](const void *context, int64_t part, int thread) {
      (*static_cast<const Work *>(context))(part, thread);
    }, &work);
  }

  // Whether this is a copy in a forked process, in which no worker lives. It
  // must not be destroyed there, and its lock may be held for ever.
  bool is_forked() const;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

 private:
  using Call = void (*)(const void *context, int64_t part, int thread);

  // What a call of run wants done. It lies on the caller's stack, so that the
  // caller waits for those who joined, but not for others.
  struct Job {
    const Call call;
    const void *const context;
    const int64_t parts;
    std::atomic<int64_t> next{0};
    // Workers at it: they change under the lock, and are watched without it.
    std::atomic<int> workers{0};
    Job *other = nullptr;  // in the list of jobs

    bool has_parts() const { return next < parts; }
  };

  // Whether callers alone are as many as threads, so that no worker may join.
  bool is_full() const { return callers_ >= threads(); }
  void run(int64_t parts, Call call, const void *context);
  static void take_parts(Job *job, int thread);
  // The job that a worker joins, or null. The lock is held.
  Job *find_job();
  void remove(const Job *job);
  static void *work(void *pool);

  std::vector<pthread_t> workers_;
  const pid_t owner_;
  std::atomic<int> callers_{0};
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  // Counts the jobs; whether all is over. They change under the lock, and are
  // watched without it.
  std::atomic<uint64_t> round_{0};
  std::atomic<bool> stop_{false};
  int started_ = 0;      // workers that have their number
  int busy_ = 0;         // workers that are at a job
  Job *jobs_ = nullptr;  // of all callers
};

#else

// Where there are no threads but the caller's.
class ThreadPool {
 public:
  explicit ThreadPool(int) {}

  template <typename Work>
  void run(int64_t parts, const Work &work) {
    for (int64_t part = 0; part < parts; ++part) work(part, 0);
  }

  bool is_forked() const { return false; }
  int threads() const { return 1; }
};

#endif

}  // namespace aqd
