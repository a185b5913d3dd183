// fused_matmul_rmsnorm_test.cpp: the cases of fused_matmul_rmsnorm.
#include "kernels/fused_matmul_rmsnorm/fused_matmul_rmsnorm.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(fused_matmul_rmsnorm) {
  const auto every = [&](FusedMatmulRmsNorm args) {
    // Sums of K terms in f32, which the norm brings to the order of 1.
    const Tolerance tolerance{.abs = 2e-6 * std::sqrt(args.x.cols() + 1), .rel = 5e-5};
    lab.check(fused_matmul_rmsnorm(lab.caps(), args), tolerance);
    lab.every<FusedMatmulRmsNorm::Overrides>(
        fused_matmul_rmsnorm_kernel,
        [&](auto over) {
          FusedMatmulRmsNorm other = args;
          if (over.phase1_only) other.norm_weight = other.residual = {};
          return fused_matmul_rmsnorm(lab.caps(), other, over);
        },
        tolerance);
  };
  struct Case {
    uint32_t rows, N, K;
  };
  // N around a tile of 32, either workgroup, and what each form takes at most; K around the lanes
  // that share it.
  for (Case c : {Case{0, 8, 8},
                 {1, 1, 1},
                 {3, 31, 7},
                 {2, 32, 8},
                 {2, 33, 9},
                 {1, 64, 300},
                 {2, 34, 127},
                 {2, 35, 128},
                 {1, 33, 129},
                 {2, 65, 64},
                 {3, 255, 5},
                 {1, 256, 33},
                 {2, 257, 40},
                 {1, 2048, 12},
                 {2, 2049, 3},
                 {1, 4096, 20},
                 {2, 4097, 18},
                 {300, 40, 4},
                 {2, 5, 0}})
    for (bool transpose_b : {false, true}) {
      const bool has_residual = (c.N + transpose_b) % 2 != 0;
      every({.x = lab.random({c.rows, c.K}),
             .weight = lab.random(transpose_b ? gpu::Shape{c.N, c.K} : gpu::Shape{c.K, c.N}),
             .norm_weight = lab.random({c.N}),
             .residual = has_residual ? lab.random({c.rows, c.N}) : gpu::View{},
             .y = lab.output({c.rows, c.N}),
             .transpose_b = transpose_b});
    }

  // One large column among small ones; a product of zeros, which eps keeps finite.
  every({.x = lab.values({2, 4}, [](size_t i) { return i < 4 ? 1.0f : 0.0f; }),
         .weight = lab.values({4, 70}, [](size_t i) { return i % 70 == 7 ? 1e5f : 1e-3f; }),
         .norm_weight = lab.random({70}),
         .residual = lab.random({2, 70}),
         .y = lab.output({2, 70}),
         .eps = 1e-5f});

  // Beyond 65,535 workgroups, in one form for rows and in the other for tiles.
  for (auto [rows, N] : {std::pair{65'537u, 3u}, {32'769u, 40u}}) {
    FusedMatmulRmsNorm args{.x = lab.random({rows, 2}),
                            .weight = lab.random({2, N}),
                            .norm_weight = lab.random({N}),
                            .y = lab.output({rows, N})};
    const bool phase1_only = N > 32;
    if (phase1_only) args.norm_weight = {};
    lab.check(
        fused_matmul_rmsnorm(lab.caps(), args, {.workgroup_size = 32, .phase1_only = phase1_only}),
        {.abs = 1e-5, .rel = 1e-4});
  }

  const FusedMatmulRmsNorm args{.x = lab.random({2, 4}),
                                .weight = lab.random({4, 300}),
                                .norm_weight = lab.random({300}),
                                .y = lab.output({2, 300})};
  const auto refuses = [&](std::string_view what, auto change,
                           FusedMatmulRmsNorm::Overrides over = {}) {
    FusedMatmulRmsNorm other = args;
    change(other);
    lab.refuses(what, [&] { fused_matmul_rmsnorm(lab.caps(), other, over); });
  };
  const auto wide = [&](uint32_t N) {
    return [&, N](auto& a) {
      a.weight = lab.random({4, N});
      a.norm_weight = lab.random({N});
      a.y = lab.output({2, N});
    };
  };
  refuses("x is absent", [](auto& a) { a.x = {}; });
  refuses("y is [1, 300]", [&](auto& a) { a.y = lab.output({1, 300}); });
  refuses("weight is [4, 300] f32, wants [300, 4]", [](auto& a) { a.transpose_b = true; });
  refuses("norm_weight is absent", [](auto& a) { a.norm_weight = {}; });
  refuses("PHASE1_ONLY is true", [](auto&) {}, {.phase1_only = true});
  refuses("residual is [4, 300]", [](auto& a) { a.residual = a.weight; });
  refuses("SMALL_N takes 256 columns", [](auto&) {}, {.small_n = true});
  refuses("MEDIUM_N takes 4096 columns", wide(4097), {.medium_n = true});
  refuses("workgroup memory takes 2048 columns", wide(2049));
  refuses("WORKGROUP_SIZE is 16", [](auto&) {}, {.workgroup_size = 16});
}

}  // namespace ms
