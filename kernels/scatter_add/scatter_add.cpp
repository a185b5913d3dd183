// scatter_add.cpp: the wrapper of scatter_add.wgsl.
#include "kernels/scatter_add/scatter_add.hpp"

namespace ms {

using gpu::in, gpu::out;

void scatter_add_ref(const gpu::HostDispatch& d);
const gpu::Kernel scatter_add_kernel =
    gpu::kernel<ScatterAdd>("scatter_add", {in, in, in, out, in}, scatter_add_ref);

gpu::Work scatter_add(const gpu::Caps& caps, const ScatterAdd& a) {
  return scatter_add(caps, a,
                     {.use_vec4 = a.output.cols() % 4 == 0 && a.output.size() >= 1 << 18,
                      .dynamic_layout = bool(a.token_offsets)});
}

gpu::Work scatter_add(const gpu::Caps&, const ScatterAdd& a, ScatterAdd::Overrides over) {
  gpu::check(scatter_add_kernel, over);
  const uint32_t tokens = a.output.rows(), hidden = a.output.cols(), k = a.weights.cols();
  require(a.output && a.output.type == gpu::Type::f32, "scatter_add: output is {}, wants f32",
          a.output);
  require(a.weights.type == gpu::Type::f32 && a.weights.rows() == tokens,
          "scatter_add: weights are {}, output is {}", a.weights, a.output);
  require(over.dynamic_layout == bool(a.token_offsets),
          "scatter_add: DYNAMIC_LAYOUT and token_offsets go together");
  const auto is_pairs = [&](const gpu::View& v) {
    return v.type == gpu::Type::u32 && v.rows() == tokens && v.cols() == k;
  };
  require(over.dynamic_layout || is_pairs(a.indices), "scatter_add: indices are {}, weights {}",
          a.indices, a.weights);
  require(!over.dynamic_layout || is_pairs(a.token_offsets),
          "scatter_add: token_offsets are {}, weights {}", a.token_offsets, a.weights);
  require(a.expert_outputs.type == gpu::Type::f32 && a.expert_outputs.cols() == hidden,
          "scatter_add: expert_outputs are {}, output is {}", a.expert_outputs, a.output);
  require(over.dynamic_layout || tokens == 0 || a.expert_outputs.rows() % tokens == 0,
          "scatter_add: expert_outputs are {}, wants [experts, {} tokens, {}]", a.expert_outputs,
          tokens, hidden);
  require(a.expert_outputs.size() <= UINT32_MAX && a.output.size() <= UINT32_MAX,
          "scatter_add: expert_outputs are {}, at most 2^32 - 1 elements", a.expert_outputs);
  require(!over.use_vec4 || hidden % 4 == 0,
          "scatter_add: USE_VEC4 takes hidden sizes in fours, output is {}", a.output);
  const uint64_t lanes = a.output.size() / (over.use_vec4 ? 4 : 1);
  return gpu::Dispatch{
      .kernel = &scatter_add_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.expert_outputs, a.indices, a.weights, a.output, a.token_offsets},
      .params = gpu::bytes(ScatterAdd::Params{tokens, hidden, k, a.accumulate}),
      .grid = gpu::fold((lanes + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
