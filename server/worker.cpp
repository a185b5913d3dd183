// worker.cpp: tasks in turn.
#include "server/worker.hpp"

#include <algorithm>
#include <atomic>

#include "text/grammar.hpp"

namespace ms {

struct Worker::Job {
  Task task;
  std::atomic<bool> cancelled = false;
  bool ended = false;  // under the worker's mutex
};

Worker::Worker(Engine& engine, size_t waiting) : engine_(engine), waiting_(waiting) {
  thread_ = std::thread([this] { work(); });
}

Worker::~Worker() {
  stop();
  thread_.join();
}

std::shared_ptr<Worker::Ticket> Worker::submit(Task task) {
  const auto job = std::make_shared<Job>();
  job->task = std::move(task);
  {
    const std::lock_guard lock(mutex_);
    // One that waits for an idle worker takes no room.
    if (stopping_ || queue_.size() >= waiting_ + (figures_.running ? 0 : 1)) return nullptr;
    queue_.push_back(job);
  }
  changed_.notify_all();
  return std::make_shared<Ticket>(*this, job);
}

void Worker::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

bool Worker::stopping() const {
  const std::lock_guard lock(mutex_);
  return stopping_;
}

Worker::Figures Worker::figures() const {
  const std::lock_guard lock(mutex_);
  Figures figures = figures_;
  figures.queued = queue_.size();
  return figures;
}

void Worker::withdraw(const std::shared_ptr<Job>& job) {
  job->cancelled = true;
  std::unique_lock lock(mutex_);
  if (const auto queued = std::ranges::find(queue_, job); queued != queue_.end()) {
    queue_.erase(queued);
    figures_.choices[2] += job->task.choices;
    return;
  }
  changed_.wait(lock, [&] { return job->ended; });
}

void Worker::work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const std::shared_ptr<Job> job = std::move(queue_.front());
    queue_.pop_front();
    figures_.running = true;
    lock.unlock();
    run(*job);
    lock.lock();
    figures_.running = false;
    job->ended = true;
    changed_.notify_all();
  }
}

void Worker::run(Job& job) {
  Task& task = job.task;
  const auto wanted = [&] { return !job.cancelled && !stopping() && task.wanted(); };
  std::exception_ptr error;
  try {
    if (task.texts.empty())
      generate(task, wanted);
    else
      embed(task, wanted);
  } catch (const std::exception& what) {
    error = std::current_exception();
    const std::lock_guard lock(mutex_);
    ++figures_.failed;
    if (!dynamic_cast<const GrammarError*>(&what)) figures_.broken = true;
  }
  task.on_end(error);
}

void Worker::generate(const Task& task, const std::function<bool()>& wanted) {
  Request request = task.request;
  for (uint32_t choice = 0; choice < task.choices; ++choice, ++request.sampling.seed) {
    Generation generation;
    generation.finish = Finish::cancelled;
    request.on_report = [&](const TokenReport& report) { task.on_report(choice, report); };
    if (wanted())
      generation = engine_.generate(
          task.prompt, request,
          [&](std::string_view text) {
            task.on_text(choice, text);
            return true;
          },
          wanted);
    {
      const std::lock_guard lock(mutex_);
      const bool stop =
          generation.finish == Finish::stop_token || generation.finish == Finish::stop_string;
      ++figures_.choices[generation.finish == Finish::cancelled ? 2 : stop ? 0 : 1];
      figures_.prompt_tokens += generation.prompt_tokens;
      figures_.cached_tokens += generation.cached_tokens;
      figures_.generated_tokens += generation.tokens.size();
      figures_.prompt_seconds += generation.record_seconds + generation.prompt_seconds;
      figures_.generate_seconds += generation.generate_seconds;
      if (!generation.tokens.empty()) figures_.broken = false;
    }
    task.on_choice(choice, generation);
  }
}

void Worker::embed(const Task& task, const std::function<bool()>& wanted) {
  for (const std::vector<uint32_t>& text : task.texts) {
    if (!wanted()) return;
    std::vector<float> embedding = engine_.embed(text);
    {
      const std::lock_guard lock(mutex_);
      ++figures_.embedded;
      figures_.prompt_tokens += text.size();
      figures_.broken = false;
    }
    task.on_embedding(std::move(embedding));
  }
}

}  // namespace ms
