// fused_layer_test.cpp: the cases of fused_layer.
#include "kernels/fused_layer/fused_layer.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(fused_layer) {
  struct Case {
    uint32_t dim, head_dim, heads, ffn, qkv_rows, groups;
  };
  for (Case c : {Case{64, 32, 2, 64, 0, 1},
                 {128, 128, 1, 192, 33, 2},
                 {256, 32, 10, 448, 200, 2},
                 {1024, 128, 8, 1024, 1536, 2}}) {
    const uint32_t heads_dim = c.heads * c.head_dim;
    const auto weight = [&](uint32_t rows, uint32_t cols) {
      return lab.weight(WeightType::q4_0, rows, cols);
    };
    FusedLayer args{.x = lab.random({1, c.dim}),
                    .norm = lab.random({c.dim}),
                    .output = weight(c.dim, heads_dim),
                    .gate_up = weight(2 * c.ffn, c.dim),
                    .down = weight(c.dim, c.ffn),
                    .exchange = lab.zeros({FusedLayer::exchange_words(c.dim, c.ffn)}),
                    .slots = lab.slots({0}),
                    .activation = c.dim == 128 ? Activation::gelu : Activation::silu,
                    .alpha = 0.05f,
                    .groups = c.groups};
    if (c.qkv_rows) {
      args.next_norm = lab.random({c.dim}, -0.1f, 0.1f);
      args.qkv_weight = weight(c.qkv_rows, c.dim);
      args.qkv = lab.output({1, c.qkv_rows});
    }
    const gpu::View attended = lab.random({1, heads_dim});
    for (bool f16 : {true, false}) {
      const AttentionParts parts = lab.parts(1, c.heads, c.head_dim, f16 ? 4 : 8, f16);
      lab.every<FusedLayer::Overrides>(
          fused_layer_kernel,
          [&](auto over) {
            require(!over.parts || over.f16_parts == f16, "of another case");
            args.attended = over.parts ? gpu::View{} : attended;
            args.parts = over.parts ? parts : AttentionParts{};
            return fused_layer(lab.caps(), args, over);
          },
          // Of integers that round the other way, since what came before is a sum in another order.
          {.abs = 3e-3, .rel = 1e-3});
    }
  }
  if (lab.caps().max_storage_buffers < FusedLayer::storage_buffers) return;
  const FusedLayer right{.attended = lab.random({1, 64}),
                         .x = lab.random({1, 64}),
                         .norm = lab.random({64}),
                         .output = lab.weight(WeightType::q4_0, 64, 64),
                         .gate_up = lab.weight(WeightType::q4_0, 128, 64),
                         .down = lab.weight(WeightType::q4_0, 64, 64),
                         .exchange = lab.zeros({FusedLayer::exchange_words(64, 64)}),
                         .slots = lab.slots({0}),
                         .groups = 1};
  const auto refuses = [&](std::string_view what, const auto& change) {
    lab.refuses(what, [&] {
      FusedLayer args = right;
      change(args);
      fused_layer(lab.caps(), args);
    });
  };
  refuses("the down weights are q8_0 [64, 64]; it takes q4_0",
          [&](FusedLayer& args) { args.down = lab.weight(WeightType::q8_0, 64, 64); });
  refuses("the output weights are q4_0 [64, 32]; it takes q4_0, columns in 64s",
          [&](FusedLayer& args) { args.output = lab.weight(WeightType::q4_0, 64, 32); });
  refuses("the gate and up weights are",
          [&](FusedLayer& args) { args.gate_up = lab.weight(WeightType::q4_0, 128, 64, 8); });
  refuses("gate_up is [64, 64], want [128, 64]",
          [&](FusedLayer& args) { args.gate_up = args.down; });
  refuses("qkv_weight [32, 64]: all three or none",
          [&](FusedLayer& args) { args.qkv_weight = lab.weight(WeightType::q4_0, 32, 64); });
  refuses("exchange is [3] u32, want 580 words",
          [&](FusedLayer& args) { args.exchange = lab.zeros({3}); });
  refuses("attended is", [&](FusedLayer& args) { args.attended = {}; });
  refuses("slots are", [&](FusedLayer& args) { args.slots = {}; });
}

}  // namespace ms
