// fused_matmul_rmsnorm.cpp: the wrapper of fused_matmul_rmsnorm.wgsl.
#include "kernels/fused_matmul_rmsnorm/fused_matmul_rmsnorm.hpp"

#include "kernels/rmsnorm/rmsnorm.hpp"

namespace ms {

using gpu::in, gpu::out;

void fused_matmul_rmsnorm_ref(const gpu::HostDispatch& d);
const gpu::Kernel fused_matmul_rmsnorm_kernel = gpu::kernel<FusedMatmulRmsNorm>(
    "fused_matmul_rmsnorm", {in, in, in, in, out}, fused_matmul_rmsnorm_ref);

constexpr uint32_t most_cached = 2048;  // columns of `products` in fused_matmul_rmsnorm.wgsl
constexpr uint32_t most_medium = 4096;
constexpr uint32_t tile = 32;

gpu::Work fused_matmul_rmsnorm(const gpu::Caps& caps, const FusedMatmulRmsNorm& a) {
  const uint32_t N = a.y.cols();
  FusedMatmulRmsNorm::Overrides over;
  // A workgroup for all of W is slow, unless W is small or there are rows enough for all.
  const bool whole_rows = a.weight.size() <= 1 << 16 || a.y.rows() >= 256;
  if (N <= most_medium && whole_rows) {
    // Columns of lanes of their own: where those would be few, or read apart, terms are shared.
    over.small_n = N > over.workgroup_size / 2 && N <= over.workgroup_size && !a.transpose_b;
    over.medium_n = N > most_cached;
    return fused_matmul_rmsnorm(caps, a, over);
  }
  over.phase1_only = true;
  FusedMatmulRmsNorm product = a;
  gpu::Work norm;
  product.y = norm.add_scratch({a.y.rows(), N});
  product.norm_weight = product.residual = {};
  gpu::Work work = fused_matmul_rmsnorm(caps, product, over);
  work.scratch = norm.scratch;
  const gpu::Work second =
      rmsnorm(caps, {.x = product.y,
                     .weight = a.norm_weight,
                     .residual = a.residual,
                     .y = a.y,
                     .has_residual = a.residual ? Residual::after : Residual::none,
                     .eps = a.eps});
  work.dispatches.push_back(second.dispatches.front());
  return work;
}

gpu::Work fused_matmul_rmsnorm(const gpu::Caps&, const FusedMatmulRmsNorm& a,
                               FusedMatmulRmsNorm::Overrides over) {
  gpu::check(fused_matmul_rmsnorm_kernel, over);
  const uint32_t rows = a.x.rows(), K = a.x.cols(), N = a.y.cols();
  const auto fits = [](const gpu::View& v, gpu::Shape shape) {
    return v && v.type == gpu::Type::f32 && v.size() == shape.size();
  };
  require(a.x && a.x.type == gpu::Type::f32, "fused_matmul_rmsnorm: x is {}, wants [rows, K] f32",
          a.x);
  require(fits(a.y, {rows, N}), "fused_matmul_rmsnorm: y is {}, x is {}, want [rows, N] f32", a.y,
          a.x);
  const gpu::Shape want = a.transpose_b ? gpu::Shape{N, K} : gpu::Shape{K, N};
  require(a.weight.type == gpu::Type::f32 && a.weight.shape == want,
          "fused_matmul_rmsnorm: weight is {}, wants {} f32", a.weight, to_string(want));
  require(over.phase1_only ? !a.norm_weight && !a.residual : fits(a.norm_weight, {N}),
          "fused_matmul_rmsnorm: norm_weight is {}, y is {}, PHASE1_ONLY is {}, which takes none",
          a.norm_weight, a.y, over.phase1_only);
  require(!a.residual || fits(a.residual, {rows, N}),
          "fused_matmul_rmsnorm: residual is {}, y is {}", a.residual, a.y);
  const bool cached = !over.small_n && !over.medium_n && !over.phase1_only;
  require(!over.small_n || N <= over.workgroup_size,
          "fused_matmul_rmsnorm: SMALL_N takes {} columns, y is {}", over.workgroup_size, a.y);
  require(!over.medium_n || N <= most_medium,
          "fused_matmul_rmsnorm: MEDIUM_N takes {} columns, y is {}", most_medium, a.y);
  require(!cached || N <= most_cached,
          "fused_matmul_rmsnorm: workgroup memory takes {} columns, y is {}", most_cached, a.y);
  for (const gpu::View& view : {a.x, a.weight, a.y})
    require(view.size() <= UINT32_MAX, "fused_matmul_rmsnorm: {}, more than 2^32 - 1 elements",
            view);

  const uint64_t groups = uint64_t(rows) * (over.phase1_only ? (uint64_t(N) + tile - 1) / tile : 1);
  return gpu::Dispatch{.kernel = &fused_matmul_rmsnorm_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.weight, a.norm_weight, a.residual, a.y},
                       .params = gpu::bytes(FusedMatmulRmsNorm::Params{
                           rows, N, K, a.eps, bool(a.residual), a.transpose_b}),
                       .grid = gpu::fold(N ? groups : 0)};
}

}  // namespace ms
