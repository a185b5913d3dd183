// check_stop_ref.cpp: the CPU twin of check_stop.wgsl.
#include "kernels/check_stop/check_stop.hpp"
#include "kernels/slot.hpp"

namespace ms {

void check_stop_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<CheckStop::Params>();
  const auto sampled = d.get<uint32_t>(0), should_stop = d.get<uint32_t>(1),
             history = d.get<uint32_t>(3);
  const auto slots = d.get<Slot>(2);
  for (size_t row = 0; row < p.rows; ++row) {
    const uint32_t token = sampled[row];
    if (!p.advance) {
      should_stop[row] = token == p.eos_token_id || p.current_pos >= p.max_tokens;
      continue;
    }
    if (slots[row].stopped == Stopped::running)
      advance(slots[row], token, history.subspan(row * p.capacity, p.capacity));
  }
}

}  // namespace ms
