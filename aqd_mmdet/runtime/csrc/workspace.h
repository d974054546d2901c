// The memory of a call, and which call has which.

#pragma once

#include <memory>
#include <new>
#include <vector>

#include "graph/memory_plan.h"
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
  std::vector<Plan> plans;  // the last of each program
  Buffer<uint8_t> arena;    // a program's tensors, and what threads need
  Buffer<uint8_t> image;    // the network's
  Buffer<int32_t> maps;     // what leaves the network
};

// The workspaces of a model. There are no more of them than calls that run at a
// time: as many as the pool has threads, or the machine processors, if these
// are more. Further callers wait, and have their turns in their order.
class Workspaces {
 public:
  Workspaces(ThreadPool *pool, size_t programs);
  Workspaces(const Workspaces &) = delete;
  Workspaces &operator=(const Workspaces &) = delete;

  // Waits for a turn, and returns the workspace that was given back last, whose
  // plans and memory are likely to fit; or a new one, or null if there is no
  // memory. It must be given back, null as well.
  std::unique_ptr<Workspace> take();
  void give_back(std::unique_ptr<Workspace> workspace);

  // Frees in a forked process what can be freed there. Destruction could wait
  // for threads that are not there.
  void forget();

 private:
  std::unique_ptr<Workspace> make() const;

  const size_t programs_;
#ifdef AQD_HAS_THREADS
  // A caller that waits for its turn. It lies on its stack.
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
  // A free one of a forked process, in which the lock may be held for ever.
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
