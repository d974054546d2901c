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

// Runs parts of work on all threads; each part is done once, by any of them.
class Pool {
 public:
  // As many threads as asked for or to be had, the caller's included.
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool &) = delete;
  Pool &operator=(const Pool &) = delete;

  // Calls work(part, thread) for all parts below a count and returns when all
  // are done; threads are counted from 0.
  template <typename Work>
  void run(int64_t parts, const Work &work) {
    run(parts, [](const void *context, int64_t part, int thread) {
      (*static_cast<const Work *>(context))(part, thread);
    }, &work);
  }

  // Whether this is a copy in a forked process, in which no worker lives. It
  // must not be destroyed there.
  bool is_forked() const;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }

 private:
  using Call = void (*)(const void *context, int64_t part, int thread);

  void run(int64_t parts, Call call, const void *context);
  void take_parts(int thread);
  static void *work(void *pool);

  std::vector<pthread_t> workers_;
  const pid_t owner_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  // Counts the calls of run; workers that are still at the last one; whether
  // all is over. They change under the lock, and are watched without it.
  std::atomic<uint64_t> round_{0};
  std::atomic<size_t> busy_{0};
  std::atomic<bool> stop_{false};
  int started_ = 0;     // workers that have their number
  Call call_ = nullptr;
  const void *context_ = nullptr;
  int64_t parts_ = 0;
  std::atomic<int64_t> next_{0};
};

#else

// Where there are no threads but the caller's.
class Pool {
 public:
  explicit Pool(int) {}

  template <typename Work>
  void run(int64_t parts, const Work &work) {
    for (int64_t part = 0; part < parts; ++part) work(part, 0);
  }

  bool is_forked() const { return false; }
  int threads() const { return 1; }
};

#endif

}  // namespace aqd
