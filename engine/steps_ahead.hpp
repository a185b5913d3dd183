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
  size_t size() const { return size_; }

  // `times` of a step, in one submission.
  void submit(const gpu::Recording& step, const gpu::View& back, uint32_t times = 1) {
    submitted_.push_back({device_.submit(step, back, times), back.bytes()});
    size_ += times;
  }
  // As many of a step as keep the device busy, `left` at most; how many there were.
  uint32_t fill(const gpu::Recording& step, const gpu::View& back, uint32_t left) {
    uint32_t added = 0;
    for (uint32_t times = together(); added < left && size_ < std::max(steps_ahead, times + 1);) {
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
    --size_;
    ++taken_;
    return made;
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Submitted {
    gpu::Ticket ticket;
    uint64_t each;  // bytes that come back of a step
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
    for (auto at = all.begin(); at != all.end(); at += ptrdiff_t(oldest.each))
      ready_.emplace_back(at, at + ptrdiff_t(oldest.each));
  }

  gpu::Device& device_;
  std::deque<Submitted> submitted_;
  std::deque<std::vector<std::byte>> ready_;
  size_t size_ = 0;     // submitted and not taken
  uint32_t taken_ = 0;  // since start_
  Clock::time_point start_ = Clock::now();
};

}  // namespace ms
