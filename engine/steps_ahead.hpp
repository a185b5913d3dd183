// steps_ahead.hpp: steps that the device takes while the host reads what earlier ones made.
#pragma once
#include <algorithm>
#include <chrono>
#include <deque>
#include <exception>
#include <vector>

#include "gpu/device.hpp"

namespace ms {

inline constexpr uint32_t steps_ahead = 4;  // on their way at least, and in a submission at most

// Steps on their way, oldest first. Whatever ends the generation, none is left behind.
class StepsAhead {
 public:
  explicit StepsAhead(gpu::Device& device) : device_(device) {}
  ~StepsAhead() {
    while (!submitted_.empty()) try {
        receive();
      } catch (const std::exception&) {  // a lost device: said already, or by the next call
      }
  }
  size_t size() const {
    size_t n = ready_.size();
    for (const Submitted& s : submitted_) n += s.times;
    return n;
  }

  // `times` of a step, in one submission.
  void submit(const gpu::Recording& step, const gpu::View& back, uint32_t times = 1) {
    submitted_.push_back({device_.submit(step, back, times), times});
  }
  // As many of a step as keep the device busy, `left` at most; how many there were.
  uint32_t fill(const gpu::Recording& step, const gpu::View& back, uint32_t left) {
    uint32_t added = 0;
    for (uint32_t times = together(); added < left && size() < std::max(steps_ahead, times + 1);) {
      const uint32_t n = std::min(times, left - added);
      submit(step, back, n);
      added += n;
    }
    return added;
  }

  // What the oldest step made.
  std::vector<std::byte> next() {
    if (ready_.empty()) receive();
    std::vector<std::byte> made = std::move(ready_.front());
    ready_.pop_front();
    ++taken_;
    return made;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Submitted {
    gpu::Ticket ticket;
    uint32_t times;
  };

  // Steps a submission: as many as take 20 ms, so that what is drawn still comes smoothly. The
  // first ones come by themselves.
  uint32_t together() const {
    if (taken_ < steps_ahead) return 1;
    const double seconds = std::chrono::duration<double>(Clock::now() - start_).count() / taken_;
    return uint32_t(std::clamp(0.02 / seconds, 1.0, double(steps_ahead)));
  }

  void receive() {
    const Submitted oldest = submitted_.front();
    submitted_.pop_front();
    const std::vector<std::byte> all = device_.wait(oldest.ticket);
    const auto each = ptrdiff_t(all.size() / oldest.times);
    for (auto at = all.begin(); at != all.end(); at += each) ready_.emplace_back(at, at + each);
  }

  gpu::Device& device_;
  std::deque<Submitted> submitted_;
  std::deque<std::vector<std::byte>> ready_;
  uint32_t taken_ = 0;  // since start_
  Clock::time_point start_ = Clock::now();
};

}  // namespace ms
