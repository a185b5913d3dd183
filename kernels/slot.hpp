// slot.hpp: the state of one sequence on the GPU, which the kernels of a step read and the last one
// advances.
//
// An array over slots: one stream is one slot. Laid out as `struct Slot` of shared/slot.wgsl.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

namespace ms {

enum class Stopped : uint32_t {
  running = 0,
  token = 1,
  limit = 2,
  idle = 3,
  stalled = 4  // workgroups of fused_layer waited for each other in vain: the step is to be taken
};             // again, at the same position, by other kernels

struct Slot {
  uint32_t token = 0;     // fed in the next step
  uint32_t position = 0;  // of that token in its sequence: where its K and V go
  uint32_t limit = 0;  // positions that the sequence may fill: context, or prompt + max tokens - 1
  Stopped stopped =
      Stopped::idle;         // other than running: steps leave this slot and its KV as they are
  uint32_t seed = 0;         // the draw at a position depends on (seed, position) alone
  float temperature = 0;     // 0: greedy
  uint32_t top_k = 0;        // 0: the whole vocabulary
  float top_p = 1;           // 1: off
  float min_p = 0;           // 0: off
  float repeat_penalty = 1;  // 1: off
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint32_t penalty_last_n = 0;  // tokens looked back; 0: off
  uint32_t stop_count = 0;
  uint32_t stop_tokens[16] = {};  // the first stop_count count
  uint32_t pad[2] = {};
};
static_assert(sizeof(Slot) == 128);

// A running slot at its step's end, with what its sequence's tokens have room in, by position: the
// twin of shared/advance.wgsl.
inline void advance(Slot& slot, uint32_t token, std::span<uint32_t> history) {
  slot.token = token;
  slot.position += 1;
  if (slot.position < history.size()) history[slot.position] = token;
  const auto stops = std::span(slot.stop_tokens).first(std::min(slot.stop_count, 16u));
  if (std::ranges::find(stops, token) != stops.end())
    slot.stopped = Stopped::token;
  else if (slot.position >= slot.limit)
    slot.stopped = Stopped::limit;
}

}  // namespace ms
