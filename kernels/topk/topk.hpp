// topk.hpp: the experts of each token: the largest of its probabilities, or of the softmax of its
// logits, and their weights.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct TopK {
  gpu::View x;        // [tokens, experts] f32, finite: probabilities, or with softmax logits
  gpu::View indices;  // [tokens, top_k] u32, by falling weight; of equal ones the lowest id first
  gpu::View weights;  // [tokens, top_k] f32
  bool softmax = false;
  bool normalize = false;  // the weights of a token add up to 1, or are zeros where all of x is

  static constexpr uint32_t most_experts = 256;

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool fused_softmax = false;
    bool small_k = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("FUSED_SOFTMAX", fused_softmax, {false, true});
      v("SMALL_K", small_k, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_tokens, num_experts, top_k, normalize;
  };
};

extern const gpu::Kernel topk_kernel;

gpu::Work topk(const gpu::Caps& caps, const TopK& args);  // chooses the overrides
gpu::Work topk(const gpu::Caps& caps, const TopK& args, TopK::Overrides over);

}  // namespace ms
