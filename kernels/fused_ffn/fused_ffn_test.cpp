// fused_ffn_test.cpp: the cases of fused_ffn.
#include "kernels/fused_ffn/fused_ffn.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(fused_ffn) {
  struct Case {
    uint32_t M, N, K;
    Activation activation;
    float clamp_max;
  };
  for (Case c : {Case{1, 1, 4, Activation::silu, 0},
                 {2, 67, 100, Activation::gelu, 0},
                 {1, 33, 512, Activation::silu, 1.5f},
                 {1, 70, 2304, Activation::gelu, 0}})
    for (WeightType type : weight_types()) {
      if (c.K % info(tensor_type(type)).block_size != 0) continue;
      const Weight weights[] = {lab.weight(type, 2 * c.N, c.K), lab.weight(type, 2 * c.N, c.K, 8)};
      const float size = 2 / std::sqrt(float(c.K));  // products of order 1
      FusedFfn args{.x = lab.random({c.M, c.K}, -size, size),
                    .weight = {},
                    .y = lab.output({c.M, c.N}),
                    .activation = c.activation,
                    .alpha = 0.5f,
                    .clamp_max = c.clamp_max};
      const gpu::View norm = lab.random({c.K}, -size, size);
      args.norm = norm;
      args.weight = weights[choose_row_tile(lab.caps()) > 1];
      lab.check(fused_ffn(lab.caps(), args), {.abs = 1e-5, .rel = 5e-5});
      for (bool int16 : {false, true})  // tolerances: matmul_gemv_test.cpp
        lab.every<FusedFfn::Overrides>(fused_ffn_kernel,
                                       [&](auto over) {
                                         require(over.int16_activations == int16,
                                                 "of another case");
                                         args.norm = over.norm_input ? norm : gpu::View{};
                                         args.weight = weights[over.row_tile > 1];
                                         return fused_ffn(lab.caps(), args, over);
                                       },
                                       {.abs = 1e-5 + (int16 ? 1.5e-4 : 0), .rel = 5e-5});
    }
  // Experts: matmul_gemv_test.cpp.
  for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_k}) {
    const uint32_t num_experts = 5, N = 33, K = 256;
    const Weight weights[] = {lab.weight(type, num_experts * 2 * N, K),
                              lab.weight(type, num_experts * 2 * N, K, 8)};
    FusedFfn args{.x = lab.random({4, K}, -0.1f, 0.1f),
                  .weight = weights[choose_row_tile(lab.caps()) > 1],
                  .y = lab.output({4, N}),
                  .experts = lab.words({4},
                                       [](size_t i) {
                                         return std::array{4u, 0u, 2u, 0u}[i];
                                       }),
                  .num_experts = num_experts};
    lab.check(fused_ffn(lab.caps(), args), {.abs = 1e-5, .rel = 5e-5});
    lab.every<FusedFfn::Overrides>(fused_ffn_kernel,
                                   [&](auto over) {
                                     require(!over.norm_input && !over.int16_activations,
                                             "of another case");
                                     args.weight = weights[over.row_tile > 1];
                                     return fused_ffn(lab.caps(), args, over);
                                   },
                                   {.abs = 1e-5, .rel = 5e-5});
  }
  // Weights beyond one binding, which holds 64 rows; and experts, two of which it holds, or a part.
  for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_k, WeightType::q6_k}) {
    const uint32_t tile = is_float(type) || type == WeightType::q4_k ? 1 : 8, K = 256;
    for (uint32_t N : {33u, 64u, 95u}) {
      const FusedFfn args{.x = lab.random({3, K}, -0.1f, 0.1f),
                          .weight = lab.weight(type, 2 * N, K, tile),
                          .y = lab.output({3, N})};
      const auto caps = lab.with_bindings_of(4 * quant_words(type, 64, K));
      lab.check_parts(fused_ffn(lab.caps(), args), fused_ffn(caps, args), caps, (N + 31) / 32,
                      {.abs = 1e-5, .rel = 5e-5});
    }
    const uint32_t num_experts = 5, N = 24;
    const FusedFfn args{.x = lab.random({4, K}, -0.1f, 0.1f),
                        .weight = lab.weight(type, num_experts * 2 * N, K, tile),
                        .y = lab.output({4, N}),
                        .experts = lab.words({4},
                                             [](size_t i) {
                                               return std::array{4u, 0u, 3u, 0u}[i];
                                             }),
                        .num_experts = num_experts};
    for (const auto& [rows, count] : {std::pair(96u, 3u), {32u, 10u}}) {
      const auto caps = lab.with_bindings_of(4 * quant_words(type, rows, K));
      lab.check_parts(fused_ffn(lab.caps(), args), fused_ffn(caps, args), caps, count,
                      {.abs = 1e-5, .rel = 5e-5});
    }
  }
  // No rows; more rows of W than workgroups there may be, two each.
  lab.check(fused_ffn(lab.caps(),
                      {.x = lab.output({0, 64}),
                       .weight = lab.weight(WeightType::q8_0, 8, 64, choose_row_tile(lab.caps())),
                       .y = lab.output({0, 4})}));
  FusedFfn::Overrides narrow{GemvShape{.workgroup_size = 8, .rows = 2, .chunk = 16, .team = 8}};
  narrow.multi_output = true;
  narrow.use_subgroups = false;
  narrow.weight_type = uint32_t(WeightType::q8_0);
  lab.check(fused_ffn(lab.caps(),
                      {.x = lab.random({1, 32}),
                       .weight = lab.weight(WeightType::q8_0, 131'200, 32),
                       .y = lab.output({1, 65'600})},
                      narrow),
            {.abs = 1e-5, .rel = 5e-5});
  lab.refuses("an even number, W has 3", [&] {
    fused_ffn(lab.caps(), {.x = lab.random({1, 64}),
                           .weight = lab.weight(WeightType::f32, 6, 64),
                           .y = lab.output({1, 3}),
                           .experts = lab.output({1}, gpu::Type::u32),
                           .num_experts = 2});
  });
  // Large gates: SiLU and GELU neither overflow nor lose their sign.
  const FusedFfn large{.x = lab.values({1, 64}, [](size_t i) { return i % 2 ? 1e5f : -1e5f; }),
                       .weight = lab.weight(WeightType::f32, 8, 64),
                       .y = lab.output({1, 4})};
  lab.check(fused_ffn(lab.caps(), large), {.abs = 1, .rel = 1e-4});
}

}  // namespace ms
