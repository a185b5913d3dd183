// moe_gather.hpp: the rows of tokens, sorted by the experts that the tokens were sent to.
//
// The order is that of tokens, the same each time; no row is ever dropped. scatter_add with
// DYNAMIC_LAYOUT takes the results back, whichever the layout of the rows.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct MoeGather {
  gpu::View hidden;          // [tokens, hidden_size] f32
  gpu::View expert_indices;  // [tokens, top_k] u32, each below experts
  // Compact, an expert's rows behind those of the experts before it: [tokens * top_k, hidden_size]
  // f32. This is what wastes no memory. Or, with max_tokens_per_expert,
  // [experts, max_tokens_per_expert, hidden_size], where a token's experts differ.
  gpu::View gathered;
  gpu::View token_counts;   // [experts] u32: pairs of a token and an expert
  gpu::View token_map;      // [rows of gathered, 2] u32: token and k of each
  gpu::View token_offsets;  // [tokens, top_k] u32: the row of gathered
  gpu::View row_experts;  // [rows of gathered] u32; unwritten, as token_map, where there is no pair
  uint32_t max_tokens_per_expert =
      0;  // 0: compact; else tokens at least, so that none is left over

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_tokens, hidden_size, num_experts, top_k, max_tokens_per_expert;
  };
};

extern const gpu::Kernel moe_gather_kernel;

// All of it: in one pass for few tokens, else count_and_map and then the rows. Where experts have
// max_tokens_per_expert, rows without a token become zeros.
gpu::Work moe_gather(const gpu::Caps& caps, const MoeGather& args);
// One entry point: "count_and_map", "gather_tokens", "gather_tokens_vec4" or "gather_single_pass".
gpu::Work moe_gather(const gpu::Caps& caps, const MoeGather& args, std::string_view entry,
                     MoeGather::Overrides over = {});

}  // namespace ms
