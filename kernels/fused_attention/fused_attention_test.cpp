// fused_attention_test.cpp: the cases of fused_attention.
#include "kernels/fused_attention/fused_attention.hpp"

#include "kernels/attention_decode/attention_decode.hpp"
#include "kernels/lab.hpp"

namespace ms {

namespace {

constexpr Tolerance tolerance{4e-6, 5e-5};
// A new key in f16 may be rounded to either of two neighbours.
constexpr Tolerance rounded{1e-3, 1e-3};

struct Heads {
  uint32_t heads, kv_heads, dim, rotary = 0;  // 0: all of dim
};

FusedAttention arguments(Lab& lab, Heads h, const gpu::View& slots, uint32_t kv_rows, bool f16,
                         bool from_qkv, uint32_t splits = 1) {
  const uint32_t rows = slots.rows(), heads = h.heads + (from_qkv ? 2 * h.kv_heads : 0);
  const gpu::Shape shape{kv_rows, h.kv_heads, h.dim};
  const auto tensor = [&] { return f16 ? lab.random_f16(shape, -2, 2) : lab.random(shape, -2, 2); };
  FusedAttention args{.qkv = lab.random({rows, uint64_t(heads) * h.dim}, -2, 2),
                      .heads = h.heads,
                      .cache = {.k = tensor(), .v = tensor(), .capacity = kv_rows / rows},
                      .out = lab.output({rows, h.heads, h.dim}),
                      .slots = slots,
                      .parts = lab.words({attention_part_words(rows, h.heads, h.dim, splits)},
                                         [](size_t) { return 0; }),
                      .splits = splits};
  if (from_qkv) args.rope = lab.random({2, 200, (h.rotary ? h.rotary : h.dim) / 2});
  return args;
}

Tolerance tolerance_of(const FusedAttention& args) {
  return args.rope && args.cache.k.type == gpu::Type::f16 ? rounded : tolerance;
}

// As the wrapper chooses.
void choose(Lab& lab, const FusedAttention& args) {
  lab.check(fused_attention(lab.caps(), args), tolerance_of(args));
}

void run(Lab& lab, const FusedAttention& args) {
  lab.every<FusedAttention::Overrides>(
      fused_attention_kernel, [&](auto over) { return fused_attention(lab.caps(), args, over); },
      tolerance_of(args));
}

}  // namespace

KERNEL_TEST(fused_attention) {
  // Ratios of heads around a team's four, at lengths around the keys that a workgroup holds at once
  // and a split has, with all of a head rotated and with a part.
  for (bool f16 : {true, false})
    for (bool from_qkv : {true, false}) {
      for (const Heads h :
           {Heads{1, 1, 128}, {10, 2, 128, 64}, {3, 1, 64}, {7, 1, 64}, {8, 2, 16, 8}})
        for (uint32_t position : {0u, 130u})
          run(lab, arguments(lab, h, lab.slots({position}), position + 1, f16, from_qkv, 3));
      for (uint32_t position : {1u, 2u, 15u, 16u, 31u, 32u, 33u, 63u, 64u, 65u, 127u, 128u, 256u})
        for (uint32_t dim : {64u, 16u, 128u})
          run(lab, arguments(lab, {4, 2, dim}, lab.slots({position}), position + 1, f16, from_qkv,
                             1 + position % 4));
    }
  for (const Heads h : {Heads{1, 1, 8}, {3, 1, 16}, {2, 1, 128}, {2, 2, 256}})
    for (bool f16 : {true, false})
      if (h.dim <= 16 * (lab.caps().variant.subgroups ? lab.caps().min_subgroup_size : 1))
        choose(lab, arguments(lab, h, lab.slots({70}), 71, f16, f16 == (h.heads != 2), 2));

  // Slots of their own lengths, one stopped and one beyond its capacity, in every layout, with and
  // without a window.
  const gpu::View slots = lab.slots({0, 99, 40, 70, 130}, 2);
  const gpu::View block_table = lab.words({5, 7}, [](size_t i) { return uint32_t(i * 11 % 35); });
  for (KvLayout layout : {KvLayout::contiguous, KvLayout::ring, KvLayout::paged})
    for (bool f16 : {true, false})
      for (bool from_qkv : {true, false})
        for (uint32_t window : {0u, 1u, 50u})
          for (uint32_t dim : {64u, 16u}) {
            FusedAttention args =
                arguments(lab, {3, 1, dim}, slots, 560, f16, from_qkv, window ? 2 : 1);
            args.cache.layout = layout;
            args.cache.capacity = layout == KvLayout::ring ? 64 : 112;
            if (layout == KvLayout::paged)
              args.cache.page_size = 16, args.cache.block_table = block_table;
            args.interleaved = window == 1;
            args.scale = 0.5f, args.attn_softcap = window ? 1.5f : 0.0f;
            args.sliding_window = window;
            run(lab, args);
          }

  // A block that the cache does not have; a key that takes everything.
  FusedAttention bad = arguments(lab, {4, 1, 16}, lab.slots({5}), 8, true, true);
  bad.cache.layout = KvLayout::paged, bad.cache.capacity = 8, bad.cache.page_size = 4;
  bad.cache.block_table = lab.words({1, 2}, [](size_t) { return 9; });
  choose(lab, bad);
  FusedAttention far = arguments(lab, {2, 1, 16}, lab.slots({69}), 70, false, false);
  far.qkv = lab.values({1, 32}, [](size_t) { return 1.0f; });
  for (float sign : {-1.0f, 1.0f}) {
    far.cache.k = lab.values(
        {70, 1, 16}, [&](size_t i) { return i == 33 * 16 ? sign * 1e5f : 0.01f * float(i % 7); });
    choose(lab, far);
  }
  // Long, whole and in parts.
  for (uint32_t splits : {1u, 96u, 128u})
    choose(lab, arguments(lab, {2, 1, 8}, lab.slots({65'535}), 65'536, true, false, splits));

  lab.refuses("129 splits", [&] {
    FusedAttention args = bad;
    args.splits = 129;
    fused_attention(lab.caps(), args);
  });
  lab.refuses("SPLIT puts 4612 words into parts", [&] {
    FusedAttention args = bad;
    args.splits = 64;
    args.parts = args.parts.slice(0, {1});
    fused_attention(lab.caps(), args);
  });
  lab.refuses("3 heads do not share 2", [&] {
    fused_attention(lab.caps(), arguments(lab, {3, 2, 16}, lab.slots({5}), 6, true, false));
  });
  lab.refuses("qkv is [1, 256] f32, want [1, 96]", [&] {
    FusedAttention args = bad;
    args.qkv = lab.random({1, 256});
    fused_attention(lab.caps(), args);
  });
  lab.refuses("slots are absent", [&] {
    FusedAttention args = bad;
    args.slots = {};
    fused_attention(lab.caps(), args, {.split = false, .head_dim = 16, .key_lanes = 1});
  });
  lab.refuses("FROM_QKV is false", [&] {
    fused_attention(lab.caps(), bad, {.from_qkv = false, .head_dim = 16, .key_lanes = 1});
  });
  lab.refuses("HEAD_DIM is 8, k is",
              [&] { fused_attention(lab.caps(), bad, {.head_dim = 8, .key_lanes = 1}); });
}

}  // namespace ms
