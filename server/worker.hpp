// worker.hpp: the thread that owns the engine's time: tasks come in by a bounded queue and are done
// in turn.
#pragma once
#include <array>
#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <thread>
#include <vector>

#include "engine/engine.hpp"

namespace ms {

// What is to be generated, and who hears of it. The functions are called by the worker's thread,
// and not after the Ticket has gone.
struct Task {
  std::vector<std::vector<uint32_t>> texts = {};  // to be embedded; else:
  std::vector<uint32_t> prompt = {};
  Request request = {};
  uint32_t choices = 1;               // one after the other; each has the next seed
  std::function<bool()> wanted = {};  // asked before each step; false ends the task
  std::function<void(std::vector<float>)> on_embedding = {};  // of each of the texts in turn
  std::function<void(uint32_t choice, const TokenReport&)> on_report = {};
  std::function<void(uint32_t choice, std::string_view text)> on_text = {};
  std::function<void(uint32_t choice, const Generation&)> on_choice = {};
  // The end, unless the Ticket went before. With what was thrown, if anything.
  std::function<void(std::exception_ptr)> on_end = {};
};

class Worker {
 public:
  // Of all tasks since the start.
  struct Figures {
    std::array<uint64_t, 3> choices{};  // stop, length, cancelled
    uint64_t failed = 0;                // tasks
    uint64_t embedded = 0;              // texts
    uint64_t prompt_tokens = 0, cached_tokens = 0, generated_tokens = 0;
    double prompt_seconds = 0, generate_seconds = 0;
    size_t queued = 0;  // now
    bool running = false;
    bool broken = false;  // the last task failed, and not by its grammar
  };

 private:
  struct Job;

 public:
  // A task that waits or runs. Its end withdraws the task, and waits until it is out of the way.
  class Ticket {
   public:
    Ticket(Worker& worker, std::shared_ptr<Job> job) : worker_(worker), job_(std::move(job)) {}
    Ticket(const Ticket&) = delete;
    Ticket& operator=(const Ticket&) = delete;
    ~Ticket() { worker_.withdraw(job_); }

   private:
    Worker& worker_;
    std::shared_ptr<Job> job_;
  };

  // `waiting`: most tasks in the queue, beside the one that runs.
  Worker(Engine& engine, size_t waiting);
  ~Worker();

  // Nothing where the queue is full, or after stop().
  std::shared_ptr<Ticket> submit(Task task);
  // Cancels what runs and what waits, and takes no more.
  void stop();
  bool stopping() const;
  Figures figures() const;

 private:
  void work();
  void run(Job& job);
  void generate(const Task& task, const std::function<bool()>& wanted);
  void embed(const Task& task, const std::function<bool()>& wanted);
  void withdraw(const std::shared_ptr<Job>& job);

  Engine& engine_;
  const size_t waiting_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Job>> queue_;
  Figures figures_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ms
