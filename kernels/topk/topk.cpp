// topk.cpp: the wrapper of topk.wgsl.
#include "kernels/topk/topk.hpp"

namespace ms {

using gpu::in, gpu::out;

void topk_ref(const gpu::HostDispatch& d);
const gpu::Kernel topk_kernel = gpu::kernel<TopK>("topk", {in, out, out}, topk_ref);

gpu::Work topk(const gpu::Caps& caps, const TopK& a) {
  const uint32_t experts = a.x.cols();
  return topk(caps, a,
              {.workgroup_size = experts <= 64 ? 64u : 256u,
               .fused_softmax = a.softmax,
               .small_k = a.indices.cols() == 2 && experts >= 2 && experts <= 8});
}

gpu::Work topk(const gpu::Caps&, const TopK& a, TopK::Overrides over) {
  gpu::check(topk_kernel, over);
  const uint32_t tokens = a.x.rows(), experts = a.x.cols(), k = a.indices.cols();
  require(a.x && a.x.type == gpu::Type::f32, "topk: x is {}, wants f32", a.x);
  require(experts >= 1 && experts <= TopK::most_experts, "topk: x is {}, at most {} experts", a.x,
          TopK::most_experts);
  require(k >= 1 && k <= experts, "topk: top_k is {} of {} experts", k, experts);
  require(a.indices.type == gpu::Type::u32 && a.indices.rows() == tokens,
          "topk: indices are {}, x is {}", a.indices, a.x);
  require(a.weights.type == gpu::Type::f32 && a.weights.rows() == tokens && a.weights.cols() == k,
          "topk: weights are {}, indices {}", a.weights, a.indices);
  require(a.x.size() <= UINT32_MAX, "topk: {} elements, at most 2^32 - 1", a.x.size());
  require(over.fused_softmax == a.softmax, "topk: FUSED_SOFTMAX and softmax go together");
  require(!over.small_k || (k == 2 && experts <= 8),
          "topk: SMALL_K takes 2 of at most 8 experts, these are {} of {}", k, experts);
  return gpu::Dispatch{
      .kernel = &topk_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.x, a.indices, a.weights},
      .params = gpu::bytes(TopK::Params{tokens, experts, k, a.normalize}),
      .grid = gpu::fold(over.small_k
                            ? (uint64_t(tokens) + over.workgroup_size - 1) / over.workgroup_size
                            : tokens)};
}

}  // namespace ms
