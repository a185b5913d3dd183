// fused_layer_test.cpp: the cases of fused_layer.
#include "kernels/fused_layer/fused_layer.hpp"

#include <map>
#include <tuple>

#include "base/tensor_type.hpp"
#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(fused_layer) {
  struct Case {
    uint32_t dim, head_dim, heads, ffn, qkv_rows, groups;
  };
  for (Case c : {Case{64, 32, 2, 64, 0, 1},
                 {128, 128, 1, 192, 33, 2},
                 {256, 128, 2, 256, 34, 2},
                 {256, 32, 16, 768, 200, 2},
                 {1024, 128, 8, 1024, 1536, 2}}) {
    const uint32_t heads_dim = c.heads * c.head_dim;
    // Of a type, D's, and W's last rows' if they are apart.
    std::map<std::tuple<WeightType, WeightType, bool>, std::vector<Weight>> made;
    const auto weights = [&](WeightType type, WeightType down, bool v) {
      const uint32_t block = info(tensor_type(type)).block_size;
      require(c.dim % block == 0 && heads_dim % block == 0 &&
                  c.ffn % info(tensor_type(down)).block_size == 0 &&
                  (!v || (c.qkv_rows && c.qkv_rows % 2 == 0)),
              "of another case");
      std::vector<Weight>& all = made[{type, down, v}];
      if (all.empty())
        all = lab.in_one_buffer({lab.weight(type, c.dim, heads_dim),
                                 lab.weight(type, 2 * c.ffn, c.dim), lab.weight(down, c.dim, c.ffn),
                                 c.qkv_rows ? lab.weight(type, c.qkv_rows, c.dim) : Weight{},
                                 v ? lab.weight(WeightType::q6_k, c.qkv_rows, c.dim) : Weight{}});
      return all;
    };
    FusedLayer args{.x = lab.random({1, c.dim}),
                    .norm = lab.random({c.dim}),
                    .output = {},
                    .gate_up = {},
                    .down = {},
                    .exchange = lab.zeros({FusedLayer::exchange_words(c.dim, c.ffn)}),
                    .slots = lab.slots({0}),
                    .activation = c.dim == 128 ? Activation::gelu : Activation::silu,
                    .alpha = 0.05f,
                    .groups = c.groups};
    if (c.qkv_rows) args.next_norm = lab.random({c.dim}, -0.1f, 0.1f);
    // With V_Q6_K there are as many rows again.
    const gpu::View qkv = lab.output({1, c.qkv_rows}), qkv_and_v = lab.output({1, 2 * c.qkv_rows});
    const gpu::View attended = lab.random({1, heads_dim});
    for (bool f16 : {true, false}) {
      const AttentionParts parts = lab.parts(1, c.heads, c.head_dim, f16 ? 4 : 8, f16);
      lab.every<FusedLayer::Overrides>(
          fused_layer_kernel,
          [&](auto over) {
            require(!over.parts || over.f16_parts == f16, "of another case");
            const auto type = WeightType(over.weight_type);
            const auto w = weights(type, over.down_q6_k ? WeightType::q6_k : type, over.v_q6_k);
            args.output = w[0], args.gate_up = w[1], args.down = w[2];
            args.qkv_weight = w[3], args.v_weight = w[4];
            args.qkv = !c.qkv_rows ? gpu::View{} : over.v_q6_k ? qkv_and_v : qkv;
            args.attended = over.parts ? gpu::View{} : attended;
            args.parts = over.parts ? parts : AttentionParts{};
            return fused_layer(lab.caps(), args, over);
          },
          // Of integers that round the other way, since what came before is a sum in another order:
          // of floats, whose sums are rounded more often, so many that 1e-3 is not enough.
          {.abs = 1e-2, .rel = 1e-3});
    }
  }
  if (lab.caps().max_storage_buffers < FusedLayer::storage_buffers) return;
  const auto together = lab.in_one_buffer({lab.weight(WeightType::q4_0, 64, 64),
                                           lab.weight(WeightType::q4_0, 128, 64),
                                           lab.weight(WeightType::q4_0, 64, 64)});
  const FusedLayer right{.attended = lab.random({1, 64}),
                         .x = lab.random({1, 64}),
                         .norm = lab.random({64}),
                         .output = together[0],
                         .gate_up = together[1],
                         .down = together[2],
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
  refuses("the down weights are q8_0 beside an output of q4_0; it takes one type",
          [&](FusedLayer& args) { args.down = lab.weight(WeightType::q8_0, 64, 64); });
  refuses("qkv_weight is f16 [32, 64]; it takes what it takes as the output's, q4_0 here",
          [&](FusedLayer& args) { args.qkv_weight = lab.weight(WeightType::f16, 32, 64); });
  refuses(
      "qkv_weight is q4_0 [32, 64]; it takes what it takes as the output's, q4_0 here, in the same",
      [&](FusedLayer& args) { args.qkv_weight = lab.weight(WeightType::q4_0, 32, 64); });
  refuses("v_weight is q6_k [32, 64] beside q4_0 of [64, 64]; it takes q6_k beside",
          [&](FusedLayer& args) {
            args.qkv_weight = args.output;
            args.v_weight = {.type = WeightType::q6_k, .rows = 32, .cols = 64};
          });
  refuses("the down weights are q5_1 [64, 64]; it takes f16, bf16, q8_0, q4_0,",
          [&](FusedLayer& args) { args.down = lab.weight(WeightType::q5_1, 64, 64); });
  refuses("the output weights are q4_0 [64, 32]; it takes f16, bf16, q8_0, q4_0,",
          [&](FusedLayer& args) { args.output = lab.weight(WeightType::q4_0, 64, 32); });
  refuses("the gate and up weights are",
          [&](FusedLayer& args) { args.gate_up = lab.weight(WeightType::q4_0, 128, 64, 8); });
  refuses("a layer's weights are not in one buffer",
          [&](FusedLayer& args) { args.down = lab.weight(WeightType::q4_0, 64, 64); });
  refuses("gate_up is [64, 64], want [128, 64]",
          [&](FusedLayer& args) { args.gate_up = args.down; });
  refuses("qkv_weight [64, 64]: all three or none",
          [&](FusedLayer& args) { args.qkv_weight = args.output; });
  refuses("exchange is [3] u32, want 580 words",
          [&](FusedLayer& args) { args.exchange = lab.zeros({3}); });
  refuses("attended is", [&](FusedLayer& args) { args.attended = {}; });
  refuses("slots are", [&](FusedLayer& args) { args.slots = {}; });
}

}  // namespace ms
