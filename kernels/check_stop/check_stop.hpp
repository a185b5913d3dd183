// check_stop.hpp: ends a step: each running slot takes its sampled token and stops if it must.
//
// advance 1: a running slot's position grows by one and its token becomes the sampled one, to be fed at that
// position; the token goes to history[slot, position] if position < capacity. Then stopped is
//   1 if the token is among the slot's stop tokens, else
//   2 if position >= limit: the token is delivered but has no place to be fed in.
// So `limit` positions are filled at most, and a prompt of n tokens (position n - 1 when the first is sampled)
// yields limit - n + 1 tokens: limit = min(context, n + max_tokens - 1). Other slots are left as they are.
// advance 0: should_stop[row] = sampled[row] == eos_token_id or current_pos >= max_tokens.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct CheckStop {
  gpu::View sampled;           // [rows] u32
  gpu::View should_stop = {};  // [rows] u32: 1 to stop; written without slots
  gpu::View slots = {};        // [rows, 32] u32: struct Slot; given: advance is 1
  gpu::View history = {};      // [rows, capacity] u32, with slots: the token at each position
  uint32_t eos_token_id = 0, max_tokens = 0, current_pos = 0;  // without slots

  struct Overrides {
    uint32_t workgroup_size = 64;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {1u, 64u}); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t eos_token_id, max_tokens, current_pos, advance, rows, capacity;
  };
};

gpu::Work check_stop(const gpu::Caps& caps, const CheckStop& args, CheckStop::Overrides over = {});

extern const gpu::Kernel check_stop_kernel;

}  // namespace ms
