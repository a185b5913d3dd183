// fused_matmul_q4.cpp: the wrapper of fused_matmul_q4.wgsl.
#include "kernels/fused_matmul_q4/fused_matmul_q4.hpp"

namespace ms {

using gpu::in, gpu::out;

void fused_matmul_q4_ref(const gpu::HostDispatch& d);
const gpu::Kernel fused_matmul_q4_kernel =
    gpu::kernel<FusedMatmulQ4>("fused_matmul_q4", {in, in, out}, fused_matmul_q4_ref);

gpu::Work fused_matmul_q4(const gpu::Caps& caps, const FusedMatmulQ4& a) {
  // A workgroup of 64 has something to do for all its lanes from 8 blocks a row on.
  return fused_matmul_q4(caps, a,
                         {.multicol = caps.cpu || a.a.cols() < 8 * 256, .batched = a.a.rows() > 1});
}

gpu::Work fused_matmul_q4(const gpu::Caps&, const FusedMatmulQ4& a, FusedMatmulQ4::Overrides over) {
  gpu::check(fused_matmul_q4_kernel, over);
  const uint32_t M = a.a.rows(), K = a.a.cols(), N = a.c.cols();
  require(a.a && a.a.type == gpu::Type::f32, "fused_matmul_q4: a is {}, wants [M, K] f32", a.a);
  require(a.c && a.c.type == gpu::Type::f32 && a.c.rows() == M,
          "fused_matmul_q4: c is {}, a is {}, want [M, N] f32", a.c, a.a);
  require(K % 256 == 0, "fused_matmul_q4: a is {}: a multiple of 256 columns, whole Q4_K blocks",
          a.a);
  require(a.b.type == gpu::Type::u32 && a.b.size() == uint64_t(N) * (K / 256) * 36,
          "fused_matmul_q4: b is {}, want {} rows of {} blocks of 36 words", a.b, N, K / 256);
  require(a.a.size() <= UINT32_MAX && a.c.size() <= UINT32_MAX && a.b.size() / 4 <= UINT32_MAX,
          "fused_matmul_q4: a {}, b {}, c {}: more than 2^32 - 1 elements", a.a, a.b, a.c);
  require(over.batched || M <= 1, "fused_matmul_q4: a is {}, one row without BATCHED", a.a);
  const uint64_t rows = over.batched ? (uint64_t(M) + 3) / 4 : M;
  require(rows <= 65535, "fused_matmul_q4: a is {}, at most {} rows", a.a, 65535 * 4);

  const uint32_t cols = over.multicol ? over.workgroup_size / 8 : 1;  // a workgroup
  gpu::Grid grid = gpu::fold((uint64_t(N) + cols - 1) / cols);
  grid[2] = uint32_t(rows);
  return gpu::Dispatch{.kernel = &fused_matmul_q4_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.a, a.b, a.c},
                       .params = gpu::bytes(FusedMatmulQ4::Params{M, N, K, a.alpha, K / 256}),
                       .grid = grid};
}

}  // namespace ms
