// steps_ahead.hpp: steps that the device takes while the host reads what earlier ones made.
#pragma once
#include <deque>
#include <exception>
#include <vector>

#include "gpu/device.hpp"

namespace ms {

inline constexpr size_t steps_ahead = 4;  // encoded before the host reads the first one's token

// Steps on their way, oldest first. Whatever ends the generation, none is left behind.
class StepsAhead {
 public:
  explicit StepsAhead(gpu::Device& device) : device_(device) {}
  ~StepsAhead() {
    while (!tickets_.empty()) try {
        next();
      } catch (const std::exception&) {  // a lost device: said already, or by the next call
      }
  }
  size_t size() const { return tickets_.size(); }
  void submit(const gpu::Recording& step, const gpu::View& back) {
    tickets_.push_back(device_.submit(step, back));
  }
  std::vector<std::byte> next() {
    const gpu::Ticket ticket = tickets_.front();
    tickets_.pop_front();
    return device_.wait(ticket);
  }

 private:
  gpu::Device& device_;
  std::deque<gpu::Ticket> tickets_;
};

}  // namespace ms
