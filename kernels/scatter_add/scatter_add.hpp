// scatter_add.hpp: the outputs of each token's experts, weighted and added up.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct ScatterAdd {
  // [rows, hidden_size] f32. Without token_offsets [experts, tokens, hidden_size]: a row of each
  // expert for each token.
  gpu::View expert_outputs;
  gpu::View indices = {};        // [tokens, top_k] u32: experts; unread with token_offsets
  gpu::View weights;             // [tokens, top_k] f32
  gpu::View output;              // [tokens, hidden_size] f32
  gpu::View token_offsets = {};  // [tokens, top_k] u32: rows of expert_outputs, from moe_gather
  bool accumulate = false;       // on top of what output holds

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool use_vec4 = false;
    bool dynamic_layout = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("USE_VEC4", use_vec4, {false, true});
      v("DYNAMIC_LAYOUT", dynamic_layout, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_tokens, hidden_size, top_k, accumulate;
  };
};

extern const gpu::Kernel scatter_add_kernel;

gpu::Work scatter_add(const gpu::Caps& caps, const ScatterAdd& args);  // chooses the overrides
gpu::Work scatter_add(const gpu::Caps& caps, const ScatterAdd& args, ScatterAdd::Overrides over);

}  // namespace ms
