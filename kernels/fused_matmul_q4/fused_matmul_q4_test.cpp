// fused_matmul_q4_test.cpp: the cases of fused_matmul_q4.
#include "kernels/fused_matmul_q4/fused_matmul_q4.hpp"

#include "base/quantize.hpp"
#include "kernels/lab.hpp"

namespace ms {

namespace {

// N rows of K weights as a file has them, in [-1, 1); every 17th is the same.
gpu::View file_weight(Lab& lab, uint32_t N, uint32_t K) {
  const auto rows = quantize(TensorType::q4_k, lab.read(lab.random({17, K})));
  std::vector<std::byte> blocks;
  for (uint32_t n = 0; n < N; ++n) {
    const auto row = std::span(rows).subspan(n % 17 * rows.size() / 17, rows.size() / 17);
    blocks.insert(blocks.end(), row.begin(), row.end());
  }
  return lab.upload({N, K / 256, 36}, gpu::Type::u32, blocks);
}

}  // namespace

KERNEL_TEST(fused_matmul_q4) {
  const auto every = [&](const FusedMatmulQ4& args, double scale = 1) {
    // Sums of K terms in f32.
    const Tolerance tolerance{.abs = 2e-6 * std::sqrt(args.a.cols()) * scale, .rel = 2e-5};
    lab.every<FusedMatmulQ4::Overrides>(
        fused_matmul_q4_kernel, [&](auto over) { return fused_matmul_q4(lab.caps(), args, over); },
        tolerance);
    lab.check(fused_matmul_q4(lab.caps(), args), tolerance);
  };
  struct Case {
    uint32_t M, N, K;
  };
  // Around eight blocks a row, which busy a workgroup of 64; around 8 and 32 columns; around four
  // rows.
  for (Case c : {Case{1, 1, 256},
                 {1, 7, 512},
                 {1, 8, 1792},
                 {1, 9, 2048},
                 {3, 31, 256},
                 {4, 33, 2304},
                 {5, 64, 512},
                 {9, 3, 8448},
                 {0, 4, 256},
                 {2, 0, 256}})
    every({.a = lab.random({c.M, c.K}),
           .b = file_weight(lab, c.N, c.K),
           .c = lab.output({c.M, c.N}),
           .alpha = -0.5f});
  every({.a = lab.random({3, 0}),
         .b = lab.output({2, 0, 36}, gpu::Type::u32),
         .c = lab.output({3, 2})});

  // One large element; all equal; scales that are subnormal in f16, and zeros.
  every({.a = lab.values({2, 512}, [](size_t i) { return i == 300 ? 1e5f : 1e-3f; }),
         .b = file_weight(lab, 5, 512),
         .c = lab.output({2, 5})},
        1e3);
  const auto small = quantize(TensorType::q4_k, std::vector<float>(256, 1e-6f));
  every({.a = lab.values({1, 256}, [](size_t) { return 1e4f; }),
         .b = lab.upload({1, 1, 36}, gpu::Type::u32, small),
         .c = lab.output({1, 1})});
  every({.a = lab.random({1, 256}),
         .b = lab.words({1, 1, 36}, [](size_t) { return 0u; }),
         .c = lab.output({1, 1})});

  // Beyond 65,535 workgroups.
  const uint32_t N = 65'537;
  lab.check(fused_matmul_q4(
                lab.caps(),
                {.a = lab.random({1, 256}), .b = file_weight(lab, N, 256), .c = lab.output({1, N})},
                {.workgroup_size = 8}),
            {.abs = 4e-5, .rel = 2e-5});

  const FusedMatmulQ4 args{
      .a = lab.random({2, 256}), .b = file_weight(lab, 3, 256), .c = lab.output({2, 3})};
  const auto refuses = [&](std::string_view what, auto change) {
    FusedMatmulQ4 other = args;
    change(other);
    lab.refuses(what, [&] { fused_matmul_q4(lab.caps(), other); });
  };
  refuses("a is absent", [](auto& o) { o.a = {}; });
  refuses("c is [1, 3]", [&](auto& o) { o.c = lab.output({1, 3}); });
  refuses("multiple of 256", [&](auto& o) { o.a = lab.random({2, 255}); });
  refuses("want 4 rows of 1 blocks", [&](auto& o) { o.c = lab.output({2, 4}); });
  refuses("at most 262140 rows", [](auto& o) {
    o.a.shape = {262'141, 256};
    o.c.shape = {262'141, 3};
  });
  lab.refuses("one row without BATCHED", [&] { fused_matmul_q4(lab.caps(), args, {}); });
  lab.refuses("WORKGROUP_SIZE is 48",
              [&] { fused_matmul_q4(lab.caps(), args, {.workgroup_size = 48, .batched = true}); });
}

}  // namespace ms
