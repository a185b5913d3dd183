// fused_layer_test.cpp: the cases of fused_layer.
#include "kernels/fused_layer/fused_layer.hpp"

#include <map>
#include <tuple>

#include "base/tensor_type.hpp"
#include "kernels/lab.hpp"

namespace ms {

namespace {

struct Shape {
  uint32_t dim, head_dim, heads, kv_heads, ffn, qkv_rows;
};

// A norm or a bias, to lie among scales.
Weight listed(const gpu::View& values) { return {.scales = values}; }
gpu::View listed_view(const Weight& w) {
  return {.buffer = w.scales.buffer, .offset = w.scales.offset, .shape = w.scales.shape};
}

// Layers of random weights in one buffer: of a type, D's, and W's last rows' if they are apart.
std::vector<FusedLayer::Layer> layers_of(Lab& lab, const Shape& s, uint32_t count, WeightType type,
                                         WeightType down, bool v, bool bias) {
  const uint32_t heads_dim = s.heads * s.head_dim;
  const uint32_t v_rows = v ? s.kv_heads * s.head_dim : 0;
  std::vector<Weight> all;
  for (uint32_t i = 0; i < count; ++i) {
    all.push_back(lab.weight(type, s.dim, heads_dim));
    all.push_back(lab.weight(type, 2 * s.ffn, s.dim));
    all.push_back(lab.weight(down, s.dim, s.ffn));
    all.push_back(s.qkv_rows ? lab.weight(type, s.qkv_rows - v_rows, s.dim) : Weight{});
    all.push_back(v ? lab.weight(WeightType::q6_k, v_rows, s.dim) : Weight{});
    all.push_back(listed(lab.random({s.dim}, -0.1f, 0.1f)));
    all.push_back(listed(lab.random({s.dim})));
    all.push_back(bias ? listed(lab.random({s.qkv_rows})) : Weight{});
  }
  all = lab.in_one_buffer(std::move(all));
  std::vector<FusedLayer::Layer> layers;
  for (uint32_t i = 0; i < count; ++i) {
    const Weight* w = &all[8 * i];
    layers.push_back({.attn_norm = listed_view(w[5]),
                      .ffn_norm = listed_view(w[6]),
                      .qkv = w[3],
                      .v = w[4],
                      .qkv_bias = bias ? listed_view(w[7]) : gpu::View{},
                      .output = w[0],
                      .gate_up = w[1],
                      .down = w[2]});
  }
  return layers;
}

gpu::View places_of(Lab& lab, const std::vector<FusedLayer::Layer>& layers) {
  std::vector<FusedLayer::Places> lines;
  for (const FusedLayer::Layer& l : layers) lines.push_back(FusedLayer::place(l));
  return lab.upload({layers.size(), 16}, gpu::Type::u32, std::as_bytes(std::span(lines)));
}

gpu::View exchange_of(Lab& lab, const Shape& s) {
  return lab.zeros({FusedLayer::exchange_words(s.dim, s.ffn, s.heads, s.kv_heads, s.head_dim)});
}

bool has_blocks(uint32_t elements, WeightType type) {
  return elements % info(tensor_type(type)).block_size == 0;
}

}  // namespace

KERNEL_TEST(fused_layer) {
  struct Case : Shape {
    uint32_t groups;
  };
  for (Case c : {Case{{64, 32, 2, 1, 64, 0}, 1},
                 {{128, 128, 1, 1, 192, 384}, 2},
                 {{256, 128, 2, 1, 256, 512}, 2},
                 {{256, 32, 16, 4, 768, 768}, 2},
                 {{1024, 128, 8, 2, 1024, 1536}, 2}}) {
    std::map<std::tuple<WeightType, bool>, std::vector<FusedLayer::Layer>> made;
    const gpu::View qkv = lab.output({1, c.qkv_rows});
    const gpu::View attended = lab.random({1, c.heads * c.head_dim});
    const gpu::View rope = lab.random({2, 128, c.head_dim / 2});
    constexpr uint32_t count = 3;
    for (bool f16 : {true, false}) {
      const AttentionParts parts = lab.parts(1, c.heads, c.head_dim, f16 ? 4 : 8, f16);
      lab.every<FusedLayer::Overrides>(
          fused_layer_kernel,
          [&](auto over) {
            require(!over.parts || over.f16_parts == f16, "of another case");
            const auto type = WeightType(over.weight_type);
            const auto q6_k = over.some_q6_k ? WeightType::q6_k : type;
            require(has_blocks(c.dim, type) && has_blocks(c.heads * c.head_dim, type) &&
                        has_blocks(c.ffn, q6_k) && has_blocks(c.dim, q6_k) &&
                        !(over.some_q6_k && !c.qkv_rows),
                    "of another case");
            std::vector<FusedLayer::Layer>& layers = made[{type, over.some_q6_k}];
            if (layers.empty())
              layers = layers_of(lab, c, count, type, q6_k, over.some_q6_k, c.dim == 1024);
            FusedLayer args{.x = lab.random({1, c.dim}),
                            .layers = {},
                            .places = {},
                            .exchange = exchange_of(lab, c),
                            .slots = lab.slots({f16 ? 0u : 100u}),
                            .activation = c.dim == 128 ? Activation::gelu : Activation::silu,
                            .alpha = 0.05f,
                            .groups = c.groups};
            std::vector<FusedLayer::Layer> all = layers;
            if (over.attention) {
              require(c.qkv_rows, "of another case");
              const KvCache cache = lab.cache(KvType::f16, 112 * count, c.kv_heads, c.head_dim);
              for (uint32_t i = 0; i < count; ++i) {
                KvCache& own = all[i].cache = cache;
                for (gpu::View* view : {&own.k, &own.v}) {
                  view->shape = {112, c.kv_heads, c.head_dim};
                  view->offset += i * view->bytes();
                }
              }
              args.layers = {all.begin() + 1, all.begin() + 1 + std::min(over.layers, 2u)};
              args.first_layer = 1;
              args.heads = c.heads;
              args.rope = rope;
              args.interleaved = c.dim == 256;
            } else {
              args.layers = {all[1]};
              args.first_layer = 1;
              if (c.qkv_rows) args.next = all[2], args.qkv = qkv;
              args.attended = over.parts ? gpu::View{} : attended;
              args.parts = over.parts ? parts : AttentionParts{};
            }
            args.places = places_of(lab, all);
            return fused_layer(lab.caps(), args, over);
          },
          // Of integers that round the other way, since what came before is a sum in another order:
          // of floats, whose sums are rounded more often, so many that 1e-3 is not enough.
          {.abs = 1e-2, .rel = 1e-3});
    }
  }
  if (lab.caps().max_storage_buffers < FusedLayer::storage_buffers) return;
  const Shape shape{64, 32, 2, 1, 64, 128};
  const auto layers = layers_of(lab, shape, 2, WeightType::q4_0, WeightType::q4_0, false, true);
  const KvCache cache = lab.cache(KvType::f16, 112, 1, 32);
  const FusedLayer right{.attended = lab.random({1, 64}),
                         .x = lab.random({1, 64}),
                         .layers = {layers[0]},
                         .next = layers[1],
                         .places = places_of(lab, layers),
                         .qkv = lab.output({1, 128}),
                         .exchange = exchange_of(lab, shape),
                         .slots = lab.slots({0}),
                         .groups = 1};
  const auto refuses = [&](std::string_view what, const auto& change) {
    lab.refuses(what, [&] {
      FusedLayer args = right;
      change(args, args.layers[0]);
      fused_layer(lab.caps(), args);
    });
  };
  const auto other = [&](WeightType type, uint32_t rows, uint32_t cols, uint32_t tile = 1) {
    return lab.weight(type, rows, cols, tile);
  };
  using Args = FusedLayer;
  using Layer = FusedLayer::Layer;
  refuses("the down weights are q8_0 beside an output of q4_0; it takes one type",
          [&](Args&, Layer& l) { l.down = other(WeightType::q8_0, 64, 64); });
  refuses("qkv is f16 [32, 64]; it takes what it takes as the output's, q4_0 here",
          [&](Args& a, Layer&) { a.next.qkv = other(WeightType::f16, 32, 64); });
  refuses("qkv is q4_0 [32, 64]; it takes what it takes as the output's, q4_0 here, in the same",
          [&](Args& a, Layer&) { a.next.qkv = other(WeightType::q4_0, 32, 64); });
  refuses("v is q6_k [32, 64] beside q4_0 of [128, 64]; it takes q6_k beside",
          [&](Args& a, Layer&) { a.next.v = {.type = WeightType::q6_k, .rows = 32, .cols = 64}; });
  refuses("the down weights are q5_1 [64, 64]; it takes f16, bf16, q8_0, q4_0,",
          [&](Args&, Layer& l) { l.down = other(WeightType::q5_1, 64, 64); });
  refuses("the output weights are q4_0 [64, 32]; it takes f16, bf16, q8_0, q4_0,",
          [&](Args&, Layer& l) { l.output = other(WeightType::q4_0, 64, 32); });
  refuses("the gate and up weights are",
          [&](Args&, Layer& l) { l.gate_up = other(WeightType::q4_0, 128, 64, 8); });
  refuses("a layer's weights are not in one buffer",
          [&](Args&, Layer& l) { l.down = other(WeightType::q4_0, 64, 64); });
  refuses("gate_up is [64, 64], want [128, 64]", [&](Args&, Layer& l) { l.gate_up = l.down; });
  refuses("its norm [64] f32, its bias [64] f32",
          [&](Args& a, Layer&) { a.next.qkv_bias = a.next.attn_norm; });
  refuses("qkv absent; D has 64 rows", [&](Args& a, Layer&) { a.qkv = {}; });
  refuses("2 layers, LAYERS is 1, ATTENTION false", [&](Args& a, Layer&) { a.layers = layers; });
  refuses("attended is [1, 64] f32, and QKV that follow [128, 64]: want none",
          [&](Args& a, Layer&) { a.heads = 2, a.layers[0].cache = cache; });
  const auto refuses_attention = [&](std::string_view what, const auto& change) {
    refuses(what, [&](Args& a, Layer& l) {
      a.attended = a.qkv = {}, a.next = {}, a.heads = 2, a.rope = lab.random({2, 128, 16});
      l.cache = cache;
      change(a, l);
    });
  };
  refuses_attention("contiguous caches of f16",
                    [&](Args&, Layer& l) { l.cache = lab.cache(KvType::f32, 112, 1, 32); });
  refuses_attention("rope is [2, 128, 4] f32, which is to be in eights", [&](Args& a, Layer&) {
    a.rope = lab.random({2, 128, 4});
  });
  refuses_attention("places are [2, 16] u32, of 1 layers from 2 on",
                    [&](Args& a, Layer&) { a.first_layer = 2; });
  refuses_attention("exchange is [8] u32, want",
                    [&](Args& a, Layer&) { a.exchange = lab.zeros({8}); });
}

}  // namespace ms
