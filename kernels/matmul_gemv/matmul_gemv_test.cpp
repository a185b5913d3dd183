// matmul_gemv_test.cpp: the cases of matmul_gemv.
#include "kernels/matmul_gemv/matmul_gemv.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(matmul_gemv) {
  struct Case {
    uint32_t M, N, K;
  };
  // Columns: less than a block, just around 64 and a chunk of 16 blocks, several chunks; K-quants
  // take multiples of 256.
  for (Case c : {Case{1, 1, 4},
                 {1, 5, 100},
                 {3, 67, 64},
                 {1, 33, 512},
                 {2, 9, 544},
                 {1, 130, 2304},
                 {1, 512, 64}})
    for (WeightType type : weight_types()) {
      if (c.K % info(tensor_type(type)).block_size != 0) continue;
      const Weight weights[] = {lab.weight(type, c.N, c.K), lab.weight(type, c.N, c.K, 8)};
      MatmulGemv args{.x = lab.random({c.M, c.K}),
                      .weight = {},
                      .y = lab.output({c.M, c.N + 3}),
                      .y_offset = 2,
                      .alpha = 0.5f};
      const gpu::View norm = lab.random({c.K});
      // The form that the wrapper chooses here.
      args.norm = norm;
      args.weight = weights[choose_row_tile(lab.caps()) > 1];
      lab.check(matmul_gemv(lab.caps(), args), {.abs = 2e-6 * std::sqrt(c.K), .rel = 2e-5});
      // Sums of K terms in f32. With integers, x may round to the other side of a tie than it does
      // in double.
      for (bool int16 : {false, true})
        lab.every<MatmulGemv::Overrides>(
            matmul_gemv_kernel,
            [&](auto over) {
              require(WeightType(over.weight_type) == type && over.int16_activations == int16,
                      "of another case");
              args.norm = over.norm_input ? norm : gpu::View{};
              args.weight = weights[over.row_tile > 1];
              return matmul_gemv(lab.caps(), args, over);
            },
            {.abs = 2e-6 * std::sqrt(c.K) + (int16 ? 1e-4 : 0), .rel = 2e-5});
    }

  // Several pairs of blocks, or pieces, at once, which do not divide a row's; several subgroups a
  // row, and few workgroups.
  for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_0, WeightType::q4_k})
    for (uint32_t K : {256u, 2304u})
      for (uint32_t unroll : {2u, 3u}) {
        const bool int16 = type == WeightType::q4_0;
        MatmulGemv::Overrides over{
            GemvShape{.workgroup_size = 64, .team = 8, .split = unroll - 1, .unroll = unroll}};
        over.chunk = 16 * (unroll - 1);
        over.use_subgroups = lab.caps().variant.subgroups;
        over.multicol = !over.use_subgroups;
        over.weight_type = uint32_t(type);
        over.int16_activations = int16;
        over.groups = 2;
        lab.check(matmul_gemv(lab.caps(),
                              {.x = lab.random({1, K}),
                               .weight = lab.weight(type, 67, K),
                               .y = lab.output({1, 67})},
                              over),
                  {.abs = 2e-6 * std::sqrt(K) + (int16 ? 1e-4 : 0), .rel = 2e-5});
      }

  // Experts: of an even and an odd number of rows, which tiles of 8 do not divide; some are met by
  // several rows of x, some by none.
  for (uint32_t N : {34u, 67u})
    for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_k}) {
      const uint32_t num_experts = 5, K = 256;
      const Weight weights[] = {lab.weight(type, num_experts * N, K),
                                lab.weight(type, num_experts * N, K, 8)};
      MatmulGemv args{.x = lab.random({4, K}),
                      .weight = weights[choose_row_tile(lab.caps()) > 1],
                      .y = lab.output({4, N + 3}),
                      .y_offset = 1,
                      .experts = lab.words({4},
                                           [](size_t i) {
                                             return std::array{4u, 0u, 2u, 0u}[i];
                                           }),
                      .num_experts = num_experts};
      lab.check(matmul_gemv(lab.caps(), args), {.abs = 2e-6 * std::sqrt(K), .rel = 2e-5});
      lab.every<MatmulGemv::Overrides>(matmul_gemv_kernel,
                                       [&](auto over) {
                                         require(!over.norm_input && !over.int16_activations,
                                                 "of another case");
                                         args.weight = weights[over.row_tile > 1];
                                         return matmul_gemv(lab.caps(), args, over);
                                       },
                                       {.abs = 2e-6 * std::sqrt(K), .rel = 2e-5});
    }
  // Weights beyond one binding, which holds 64 rows.
  for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_k, WeightType::q6_k})
    for (uint32_t N : {65u, 128u, 191u}) {
      const uint32_t tile = is_float(type) || type == WeightType::q4_k ? 1 : 8, K = 256;
      const MatmulGemv args{.x = lab.random({3, K}),
                            .weight = lab.weight(type, N, K, tile),
                            .norm = lab.random({K}),
                            .y = lab.output({3, N + 3}),
                            .y_offset = 2};
      const auto caps = lab.with_bindings_of(4 * quant_words(type, 64, K));
      lab.check_parts(matmul_gemv(lab.caps(), args), matmul_gemv(caps, args), caps, (N + 63) / 64,
                      {.abs = 2e-6 * std::sqrt(K), .rel = 2e-5});
    }
  // Experts beyond one binding: parts of two experts each, or of some rows of one.
  for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_k}) {
    const uint32_t tile = is_float(type) || type == WeightType::q4_k ? 1 : 8, num_experts = 5,
                   K = 256;
    const auto args = [&](uint32_t N) {
      return MatmulGemv{.x = lab.random({4, K}),
                        .weight = lab.weight(type, num_experts * N, K, tile),
                        .y = lab.output({4, N + 3}),
                        .y_offset = 1,
                        .experts = lab.words({4},
                                             [](size_t i) {
                                               return std::array{4u, 0u, 3u, 0u}[i];
                                             }),
                        .num_experts = num_experts};
    };
    struct Parts {
      uint32_t N, rows_fit, count;
    };
    for (Parts p : {Parts{40, 80, 3}, {48, 96, 3}, {48, 32, 10}}) {
      const MatmulGemv a = args(p.N);
      const auto caps = lab.with_bindings_of(4 * quant_words(type, p.rows_fit, K));
      lab.check_parts(matmul_gemv(lab.caps(), a), matmul_gemv(caps, a), caps, p.count,
                      {.abs = 2e-6 * std::sqrt(K), .rel = 2e-5});
    }
    // Experts of 41 rows, of which 40 fit: those after the first do not start where a part may.
    if (type != WeightType::f16 || tile > 1)
      lab.refuses("one binding of", [&] {
        matmul_gemv(lab.with_bindings_of(4 * quant_words(type, 40, K)), args(41));
      });
  }
  // No rows; more rows of W than workgroups there may be, one each; a large vocabulary; an element
  // of 1e5 among small ones, and all equal.
  const Weight small = lab.weight(WeightType::q8_0, 70, 256, choose_row_tile(lab.caps()));
  lab.check(matmul_gemv(lab.caps(),
                        {.x = lab.output({0, 256}), .weight = small, .y = lab.output({0, 70})}));
  const MatmulGemv many{.x = lab.random({1, 32}),
                        .weight = lab.weight(WeightType::q8_0, 65'600, 32),
                        .y = lab.output({1, 65'600})};
  lab.check(matmul_gemv(lab.caps(), many,
                        {GemvShape{.workgroup_size = 8, .rows = 1, .chunk = 16, .team = 8}, false,
                         true, false, uint32_t(WeightType::q8_0)}));
  lab.check(
      matmul_gemv(lab.caps(), {.x = lab.random({1, 32}),
                               .weight = lab.weight(WeightType::q4_0, 262'144, 32, small.row_tile),
                               .y = lab.output({1, 262'144})}),
      {.abs = 2e-6 * std::sqrt(32), .rel = 2e-5});
  for (const gpu::View& x :
       {lab.values({1, 256}, [](size_t i) { return i == 77 ? 1e5f : 1e-3f * float(i % 7); }),
        lab.values({1, 256}, [](size_t) { return -0.75f; })})
    lab.check(matmul_gemv(lab.caps(), {.x = x, .weight = small, .y = lab.output({1, 70})}),
              {.abs = 1e-4, .rel = 2e-5});
  const MatmulGemv mixture{.x = lab.random({2, 64}),
                           .weight = lab.weight(WeightType::f32, 6, 64),
                           .y = lab.output({2, 2}),
                           .num_experts = 3};
  const auto with = [&](gpu::View experts, uint32_t num_experts) {
    MatmulGemv bad = mixture;
    bad.experts = experts;
    bad.num_experts = num_experts;
    matmul_gemv(lab.caps(), bad);
  };
  lab.refuses("no row says which", [&] { with({}, 3); });
  lab.refuses("experts are [3]", [&] { with(lab.output({3}, gpu::Type::u32), 3); });
  lab.refuses("do not divide among 4", [&] { with(lab.output({2}, gpu::Type::u32), 4); });
}

}  // namespace ms
