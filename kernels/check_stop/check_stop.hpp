// check_stop.hpp: ends a step: each running slot takes its sampled token, and stops if it must.
//
// With slots: position grows by one, the token is to be fed there, and goes to history[slot,
// position] if position < capacity. stopped becomes 1 if it is a stop token, else 2 if position >=
// limit: it is delivered but has no place. So a prompt of n tokens (position n - 1 when the first
// is sampled) yields limit - n + 1 tokens at most: limit = min(context, n + max_tokens - 1). Other
// slots are left alone.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct CheckStop {
  gpu::View sampled;           // [rows] u32
  gpu::View slots = {};        // [rows, 32] u32: struct Slot
  gpu::View history = {};      // [rows, capacity] u32, with slots: the token at each position
  gpu::View should_stop = {};  // [rows] u32, without slots: 1 for the token eos_token_id or when
  uint32_t eos_token_id = 0, max_tokens = 0, current_pos = 0;  // current_pos >= max_tokens

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
