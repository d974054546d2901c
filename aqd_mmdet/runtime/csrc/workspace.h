// The memory of calls.

#pragma once

#include <memory>
#include <new>
#include <vector>

#include "execution.h"
#include "thread_pool.h"

#ifdef AQD_HAS_THREADS
#include <deque>
#endif

namespace aqd {

// Memory that is used again for the next image.
template <typename T>
class Buffer {
 public:
  // Returns null if there is no memory.
  T *get(size_t count) {
    if (count > count_) {
      data_.reset();
      data_.reset(new (std::nothrow) T[count]);
      count_ = data_ == nullptr ? 0 : count;
    }
    return data_.get();
  }

 private:
  std::unique_ptr<T[]> data_;
  size_t count_ = 0;
};

// All that a call writes, but for what it was given to write to.
struct Workspace {
  std::vector<Execution> executions;  // the last of each program
  Buffer<uint8_t> arena;  // a program's tensors, and what threads need
  Buffer<uint8_t> image;  // of the network
  Buffer<int32_t> maps;   // what leaves the network
};

// The workspaces of a model. At most as many calls run at a time as the pool
// has threads, or as the machine has processors, if these are more. Further
// callers wait, first come, first served.
class Workspaces {
 public:
  Workspaces(ThreadPool *pool, size_t programs);
  Workspaces(const Workspaces &) = delete;
  Workspaces &operator=(const Workspaces &) = delete;

  // Waits for a turn. Returns the workspace that was given back last, whose
  // plans and memory are likely to fit, or a new one, or null if there is no
  // memory. What it returns must be given back, even null.
  std::unique_ptr<Workspace> take();
  void give_back(std::unique_ptr<Workspace> workspace);

  // Frees in a forked process what can be freed. Destruction could wait for
  // threads that the process does not have.
  void forget();

 private:
  std::unique_ptr<Workspace> make() const;

  const size_t programs_;
#ifdef AQD_HAS_THREADS
  // A caller that waits for its turn. It lies on that caller's stack.
  struct Waiter {
    std::condition_variable turn;
    std::unique_ptr<Workspace> workspace;
    bool is_called = false;
  };

  ThreadPool &pool_;
  const int most_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> free_;
  std::deque<Waiter *> waiters_;
  // A free workspace of a forked process, where the lock may be held for ever.
  std::atomic<Workspace *> spare_{nullptr};
#else
  std::unique_ptr<Workspace> free_;
#endif
};

// A workspace for as long as a call runs.
class Lease {
 public:
  explicit Lease(Workspaces *from) : from_(*from), workspace_(from->take()) {}
  ~Lease() { from_.give_back(std::move(workspace_)); }
  Lease(const Lease &) = delete;
  Lease &operator=(const Lease &) = delete;

  // Null if there is no memory.
  Workspace *get() const { return workspace_.get(); }

 private:
  Workspaces &from_;
  std::unique_ptr<Workspace> workspace_;
};

}  // namespace aqd
