// thread_pool.cpp: loops wait in a queue; whoever is free takes the next iteration of the first.
#include "base/thread_pool.hpp"

#include <algorithm>
#include <atomic>
#include <exception>

namespace ms {

// Lives on the stack of its parallel_for, which outwaits the workers inside.
struct ThreadPool::Loop {
  size_t count;
  const std::function<void(size_t)>& body;
  std::atomic<size_t> next = 0;
  size_t workers = 0;                  // in run(), besides the caller; guarded by mutex_
  std::exception_ptr error = nullptr;  // the first; guarded by mutex_
};

ThreadPool::ThreadPool(size_t threads) {
  if (threads == 0) threads = std::max(1u, std::thread::hardware_concurrency());
  workers_.reserve(threads - 1);
  while (workers_.size() + 1 < threads) {
    workers_.emplace_back([this](std::stop_token stop) { work(stop); });
  }
}

void ThreadPool::parallel_for(size_t count, const std::function<void(size_t)>& body) {
  Loop loop{.count = count, .body = body};
  const bool shared = count > 1 && !workers_.empty();
  if (shared) {
    const std::lock_guard lock(mutex_);
    loops_.push_back(&loop);
  }
  if (shared) loop_added_.notify_all();
  run(loop);
  {
    std::unique_lock lock(mutex_);
    std::erase(loops_, &loop);
    worker_left_.wait(lock, [&] { return loop.workers == 0; });
  }
  if (loop.error) std::rethrow_exception(loop.error);
}

void ThreadPool::work(std::stop_token stop) {
  std::unique_lock lock(mutex_);
  while (loop_added_.wait(lock, stop, [&] { return !loops_.empty(); })) {
    Loop& loop = *loops_.front();
    ++loop.workers;
    lock.unlock();
    run(loop);
    lock.lock();
    std::erase(loops_, &loop);
    if (--loop.workers == 0) worker_left_.notify_all();
  }
}

// Runs iterations until none is left to hand out.
void ThreadPool::run(Loop& loop) {
  for (size_t i; (i = loop.next.fetch_add(1)) < loop.count;) {
    try {
      loop.body(i);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (!loop.error) loop.error = std::current_exception();
      loop.next = loop.count;
    }
  }
}

}  // namespace ms
