// thread_pool.hpp: a fixed set of threads that share the iterations of loops.
//
// The calling thread works too, so a pool of one starts no thread, loops may nest, and several
// threads may use one pool. An iteration should be worth microseconds: a row, not an element.
#pragma once
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

namespace ms {

class ThreadPool {
 public:
  // threads counts the caller's; 0 means one for each hardware thread.
  explicit ThreadPool(size_t threads = 0);

  // Calls body(0) .. body(count - 1), each once, in any order, and returns when all are done. The
  // first exception stops the hand-out of further iterations and is rethrown here.
  void parallel_for(size_t count, const std::function<void(size_t)>& body);

  size_t size() const { return workers_.size() + 1; }

 private:
  struct Loop;
  void work(std::stop_token stop);
  void run(Loop& loop);

  std::mutex mutex_;
  std::condition_variable_any loop_added_;
  std::condition_variable worker_left_;
  std::deque<Loop*> loops_;            // those that still have iterations to hand out
  std::vector<std::jthread> workers_;  // last: stops and joins before the rest goes
};

}  // namespace ms
