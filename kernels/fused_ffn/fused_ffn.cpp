// fused_ffn.cpp: the wrapper of fused_ffn.wgsl.
#include "kernels/fused_ffn/fused_ffn.hpp"

#include <algorithm>

namespace ms {

using gpu::in, gpu::out;

void fused_ffn_ref(const gpu::HostDispatch& d);
const gpu::Kernel fused_ffn_kernel =
    gpu::kernel<FusedFfn>("fused_ffn", {in, in, in, in, out, in}, fused_ffn_ref);

gpu::Work fused_ffn(const gpu::Caps& caps, const FusedFfn& a) {
  const bool int16 = a.int16_activations && !is_float(a.weight.type);
  const GemvChoice choice =
      choose_gemv(caps, "fused_ffn", a.weight, a.weight.rows / std::max(1u, a.num_experts), int16,
                  a.experts ? 1 : a.x.rows());
  FusedFfn::Overrides over{choice.shape};
  over.multi_output = true;
  over.use_subgroups = choice.subgroups;
  over.rows = over.rows < 2 ? 2 : over.rows;
  over.batched = a.x.rows() > 1;
  over.weight_type = uint32_t(a.weight.type);
  over.norm_input = bool(a.norm);
  over.int16_activations = int16;
  return with_tuning_key(fused_ffn(caps, a, over), choice);
}

gpu::Work fused_ffn(const gpu::Caps& caps, const FusedFfn& a, FusedFfn::Overrides over) {
  gpu::check(fused_ffn_kernel, over);
  const uint32_t M = a.x.rows(), K = a.weight.cols, x_stride = a.x_stride ? a.x_stride : K;
  const WeightType type = over.f16_weights ? WeightType::f16 : WeightType(over.weight_type);
  require_gemv(caps, "fused_ffn", a.x, a.weight, a.norm, x_stride, over.use_subgroups,
               over.multi_output, over.int16_activations, over);
  require(over.vectors == 1 || !a.experts,
          "fused_ffn: VECTORS {}, but each row of x meets an expert of its own", over.vectors);
  const uint32_t rows = rows_of_expert("fused_ffn", a.weight, a.experts, a.num_experts, M);
  require(rows % 2 == 0, "fused_ffn: gate and up rows in turn make an even number, W has {}", rows);
  require(over.batched || M <= 1, "fused_ffn: x is {}, one row without BATCHED", a.x);
  require(type == a.weight.type, "fused_ffn: the overrides say {}, W is {}", to_string(type),
          to_string(a.weight.type));
  require(over.norm_input == bool(a.norm), "fused_ffn: NORM_INPUT and norm go together");
  const uint32_t N = rows / 2;
  require(a.y.size() == uint64_t(M) * N, "fused_ffn: y is {}, results are [{}, {}]", a.y, M, N);
  gpu::Work work;
  for (const WeightPart& part : split_rows("fused_ffn", caps, a.weight, a.num_experts, 2))
    work += gpu::Dispatch{
        .kernel = &fused_ffn_kernel,
        .constants = gpu::constants(over),
        .bindings = {a.x, part.weight.quants, part.weight.scales, a.norm, a.y, a.experts},
        .params = gpu::bytes(FusedFfn::Params{M, K, part.rows / 2, a.alpha, uint32_t(a.activation),
                                              a.clamp_max, a.eps, a.weight.row_blocks(), x_stride,
                                              N, part.first_row / 2, a.experts ? part.experts : 0,
                                              part.first_expert}),
        .grid = {gemv_groups(caps, part.rows, over.multi_output && over.use_subgroups,
                             over.multi_output && (!over.use_subgroups || over.team == 1), over),
                 (M + over.vectors - 1) / over.vectors, 1}};
  return work;
}

}  // namespace ms
