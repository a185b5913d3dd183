// matmul_gemv_residual_test.cpp: the cases of matmul_gemv_residual.
#include "kernels/matmul_gemv_residual/matmul_gemv_residual.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(matmul_gemv_residual) {
  struct Case {
    uint32_t M, N, K;
  };
  for (Case c : {Case{1, 1, 4}, {1, 5, 100}, {3, 67, 64}, {1, 33, 512}, {2, 130, 2304}})
    for (WeightType type : weight_types()) {
      if (c.K % info(tensor_type(type)).block_size != 0) continue;
      const Weight weights[] = {lab.weight(type, c.N, c.K), lab.weight(type, c.N, c.K, 8)};
      MatmulGemvResidual args{.x = lab.random({c.M, c.K}),
                              .weight = {},
                              .residual = lab.random({c.M, c.N}),
                              .y = lab.output({c.M, c.N}),
                              .alpha = 0.5f};
      args.weight = weights[choose_row_tile(lab.caps()) > 1];
      lab.check(matmul_gemv_residual(lab.caps(), args),
                {.abs = 2e-6 * std::sqrt(c.K), .rel = 2e-5});
      for (bool int16 : {false, true})  // tolerances: matmul_gemv_test.cpp
        lab.every<MatmulGemvResidual::Overrides>(
            matmul_gemv_residual_kernel,
            [&](auto over) {
              require(over.int16_activations == int16, "of another case");
              args.weight = weights[over.row_tile > 1];
              return matmul_gemv_residual(lab.caps(), args, over);
            },
            {.abs = 2e-6 * std::sqrt(c.K) + (int16 ? 1e-4 : 0), .rel = 2e-5});
    }
  // Attention in parts, of as many splits and heads as have keys.
  for (WeightType type : weight_types())
    for (uint32_t dim : {128u, 32u})
      for (bool f16 : {true, false}) {
        const uint32_t rows = dim == 128 ? 1 : 3, heads = 512 / dim, N = 33;
        const Weight weights[] = {lab.weight(type, N, 512), lab.weight(type, N, 512, 8)};
        MatmulGemvResidual args{.weight = {},
                                .residual = lab.random({rows, N}),
                                .y = lab.output({rows, N}),
                                .parts = lab.parts(rows, heads, dim, f16 ? 4 : 8, f16)};
        args.weight = weights[choose_row_tile(lab.caps()) > 1];
        if (choose_row_tile(lab.caps()) == 1 && lab.caps().variant.subgroups)
          lab.check(matmul_gemv_residual(lab.caps(), args), {.abs = 1e-4, .rel = 2e-5});
        for (bool int16 : {false, true})
          lab.every<MatmulGemvResidual::Overrides>(
              matmul_gemv_residual_kernel,
              [&](auto over) {
                require(over.int16_activations == int16, "of another case");
                args.weight = weights[over.row_tile > 1];
                return matmul_gemv_residual(lab.caps(), args, over);
              },
              {.abs = 1e-4 + (int16 ? 1e-4 : 0), .rel = 2e-5});
      }
  // Weights beyond one binding, which holds 64 rows.
  for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_k, WeightType::q6_k})
    for (uint32_t N : {65u, 128u, 191u}) {
      const uint32_t tile = is_float(type) || type == WeightType::q4_k ? 1 : 8, K = 256;
      const MatmulGemvResidual args{.x = lab.random({3, K}),
                                    .weight = lab.weight(type, N, K, tile),
                                    .residual = lab.random({3, N}),
                                    .y = lab.output({3, N})};
      const auto caps = lab.with_bindings_of(4 * quant_words(type, 64, K));
      lab.check_parts(matmul_gemv_residual(lab.caps(), args), matmul_gemv_residual(caps, args),
                      caps, (N + 63) / 64, {.abs = 2e-6 * std::sqrt(K), .rel = 2e-5});
    }
  // As in matmul_gemv_test.cpp: no rows, more rows of W than workgroups there may be, 1e5.
  const Weight small = lab.weight(WeightType::q8_0, 70, 256, choose_row_tile(lab.caps()));
  lab.check(matmul_gemv_residual(lab.caps(), {.x = lab.output({0, 256}),
                                              .weight = small,
                                              .residual = lab.output({0, 70}),
                                              .y = lab.output({0, 70})}));
  lab.check(matmul_gemv_residual(lab.caps(),
                                 {.x = lab.random({1, 32}),
                                  .weight = lab.weight(WeightType::q8_0, 65'600, 32),
                                  .residual = lab.random({1, 65'600}),
                                  .y = lab.output({1, 65'600})},
                                 {GemvShape{.workgroup_size = 8, .rows = 1, .chunk = 16, .team = 8},
                                  false, true, uint32_t(WeightType::q8_0)}));
  lab.check(
      matmul_gemv_residual(
          lab.caps(), {.x = lab.values({1, 256}, [](size_t i) { return i == 77 ? 1e5f : 1e-3f; }),
                       .weight = small,
                       .residual = lab.random({1, 70}),
                       .y = lab.output({1, 70})}),
      {.abs = 1e-4, .rel = 2e-5});
  lab.refuses("x is absent, W has 96 columns", [&] {
    matmul_gemv_residual(
        lab.caps(),
        {.weight = lab.weight(WeightType::f16, 1, 96),
         .residual = lab.random({1, 1}),
         .y = lab.output({1, 1}),
         .parts = lab.parts(1, 4, 32, 4, true)},
        {GemvShape{}, true, false, uint32_t(WeightType::f16), false, true, true, 32});
  });
  lab.refuses("holds 1024, too few", [&] {
    matmul_gemv_residual(lab.with_bindings_of(1024),
                         {.x = lab.random({1, 2048}),
                          .weight = lab.weight(WeightType::f32, 1, 2048),
                          .residual = lab.random({1, 1}),
                          .y = lab.output({1, 1})});
  });
}

}  // namespace ms
