// matmul_gemv_residual.cpp: the wrapper of matmul_gemv_residual.wgsl.
#include "kernels/matmul_gemv_residual/matmul_gemv_residual.hpp"

namespace ms {

using gpu::in, gpu::out;

void matmul_gemv_residual_ref(const gpu::HostDispatch& d);
const gpu::Kernel matmul_gemv_residual_kernel = gpu::kernel<MatmulGemvResidual>(
    "matmul_gemv_residual", {in, in, in, in, out}, matmul_gemv_residual_ref);

gpu::Work matmul_gemv_residual(const gpu::Caps& caps, const MatmulGemvResidual& a) {
  const uint32_t M = a.parts ? a.parts.rows : a.x.rows();
  const bool int16 = a.int16_activations && !is_float(a.weight.type);
  const GemvChoice choice =
      choose_gemv(caps, "matmul_gemv_residual", a.weight, a.weight.rows, int16, M);
  MatmulGemvResidual::Overrides over{choice.shape};
  over.use_subgroups = choice.subgroups;
  over.multicol = choice.multicol;
  over.weight_type = uint32_t(a.weight.type);
  over.int16_activations = int16;
  over.parts = bool(a.parts);
  if (a.parts) over.f16_parts = a.parts.f16, over.head_dim = a.parts.head_dim;
  return with_tuning_key(matmul_gemv_residual(caps, a, over), choice);
}

gpu::Work matmul_gemv_residual(const gpu::Caps& caps, const MatmulGemvResidual& a,
                               MatmulGemvResidual::Overrides over) {
  gpu::check(matmul_gemv_residual_kernel, over);
  const AttentionParts& p = a.parts;
  const uint32_t M = p ? p.rows : a.x.rows(), N = a.weight.rows, K = a.weight.cols,
                 x_stride = a.x_stride ? a.x_stride : K;
  require(over.parts == bool(p), "matmul_gemv_residual: PARTS is {}, parts are {}", over.parts,
          p.words);
  if (p) {
    check_parts("matmul_gemv_residual", p);
    require(over.f16_parts == p.f16 && over.head_dim == p.head_dim,
            "matmul_gemv_residual: F16_PARTS is {} and HEAD_DIM {}, parts are of [{}, {}, {}]{}",
            over.f16_parts, over.head_dim, M, p.heads, p.head_dim, p.f16 ? " f16" : "");
    require(!a.x && x_stride == K && K % 32 == 0 && uint64_t(p.heads) * p.head_dim == K,
            "matmul_gemv_residual: parts are of [{}, {}, {}], x is {}, W has {} columns, rows are "
            "{} apart",
            M, p.heads, p.head_dim, a.x, K, x_stride);
  }
  const gpu::View x = p ? gpu::View{.shape = {M, K}} : a.x;  // for its shape
  require_gemv(caps, "matmul_gemv_residual", x, a.weight, {}, x_stride, over.use_subgroups,
               over.multicol, over.int16_activations, over);
  require(WeightType(over.weight_type) == a.weight.type,
          "matmul_gemv_residual: WEIGHT_TYPE {}, W is {}", over.weight_type,
          to_string(a.weight.type));
  require(a.residual.size() == uint64_t(M) * N,
          "matmul_gemv_residual: residual is {}, results are [{}, {}]", a.residual, M, N);
  require(a.y.size() == uint64_t(M) * N, "matmul_gemv_residual: y is {}, results are [{}, {}]", a.y,
          M, N);
  gpu::Work work;
  for (const WeightPart& part : split_rows("matmul_gemv_residual", caps, a.weight))
    work.append(gpu::Dispatch{
        .kernel = &matmul_gemv_residual_kernel,
        .constants = gpu::constants(over),
        .bindings = {p ? p.words : a.x, part.weight.quants, part.weight.scales, a.residual, a.y},
        .params =
            gpu::bytes(MatmulGemvResidual::Params{M, part.rows, K, a.alpha, a.weight.row_blocks(),
                                                  x_stride, N, part.first_row, p.splits}),
        .grid = {gemv_groups(caps, part.rows, over.use_subgroups, over.multicol, over),
                 (M + over.vectors - 1) / over.vectors, 1}});
  return work;
}

}  // namespace ms
