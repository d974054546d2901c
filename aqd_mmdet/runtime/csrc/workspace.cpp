#include "workspace.h"

#include <algorithm>

#ifdef AQD_HAS_THREADS
#include <unistd.h>
#endif

namespace aqd {

std::unique_ptr<Workspace> Workspaces::make() const {
  std::unique_ptr<Workspace> made(new (std::nothrow) Workspace);
  if (made != nullptr) made->executions = std::vector<Execution>(programs_);
  return made;
}

#ifdef AQD_HAS_THREADS

namespace {

int processors() { return static_cast<int>(sysconf(_SC_NPROCESSORS_ONLN)); }

}  // namespace

Workspaces::Workspaces(ThreadPool *pool, size_t programs)
    : programs_(programs), pool_(*pool),
      most_(std::max(pool->threads(), processors())) {}

std::unique_ptr<Workspace> Workspaces::take() {
  std::unique_ptr<Workspace> taken;
  if (pool_.is_forked()) {
    taken.reset(spare_.exchange(nullptr));
    return taken != nullptr ? std::move(taken) : make();
  }
  {
    std::unique_lock<std::mutex> lock(mutex_);
    if (pool_.callers() < most_) {
      pool_.enter();
    } else {
      Waiter self;
      waiters_.push_back(&self);
      self.turn.wait(lock, [&] { return self.is_called; });
      taken = std::move(self.workspace);
    }
    if (taken == nullptr && !free_.empty()) {
      taken = std::move(free_.back());
      free_.pop_back();
    }
  }
  return taken != nullptr ? std::move(taken) : make();
}

void Workspaces::give_back(std::unique_ptr<Workspace> workspace) {
  if (pool_.is_forked()) {
    delete spare_.exchange(workspace.release());
    return;
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  if (waiters_.empty()) {
    pool_.leave();
    if (workspace != nullptr) free_.push_back(std::move(workspace));
    return;
  }
  // The turn passes to the caller that waits longest; no other can take it.
  Waiter &next = *waiters_.front();
  waiters_.pop_front();
  next.workspace = std::move(workspace);
  next.is_called = true;
  next.turn.notify_one();
}

void Workspaces::forget() {
  delete spare_.exchange(nullptr);
  // If another thread held the lock, the list may be half changed.
  if (!mutex_.try_lock()) return;
  free_.clear();
  mutex_.unlock();
}

#else

Workspaces::Workspaces(ThreadPool *, size_t programs) : programs_(programs) {}

std::unique_ptr<Workspace> Workspaces::take() {
  return free_ != nullptr ? std::move(free_) : make();
}

void Workspaces::give_back(std::unique_ptr<Workspace> workspace) {
  free_ = std::move(workspace);
}

void Workspaces::forget() {}

#endif

}  // namespace aqd
