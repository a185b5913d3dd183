// fused_attention_test.cpp: the cases of fused_attention.
#include "kernels/fused_attention/fused_attention.hpp"

#include "kernels/lab.hpp"

namespace ms {

namespace {

constexpr Tolerance tolerance{4e-6, 5e-5};
// A new key in f16 may be rounded to either of two neighbours.
constexpr Tolerance rounded{1e-3, 1e-3};

struct Heads {
  uint32_t heads, kv_heads, dim, rotary = 0;  // 0: all of dim
};

FusedAttention arguments(Lab& lab, Heads h, const gpu::View& slots, uint32_t kv_rows, KvType type,
                         bool from_qkv, uint32_t splits = 0) {
  const uint32_t rows = slots.rows(), heads = h.heads + (from_qkv ? 2 * h.kv_heads : 0);
  FusedAttention args{.qkv = lab.random({rows, uint64_t(heads) * h.dim}, -2, 2),
                      .heads = h.heads,
                      .cache = lab.cache(type, kv_rows, h.kv_heads, h.dim),
                      .out = lab.output({rows, h.heads, h.dim}),
                      .slots = slots,
                      .parts = {.rows = rows,
                                .heads = h.heads,
                                .head_dim = h.dim,
                                .splits = splits,
                                .f16 = type != KvType::f32}};
  args.cache.capacity = kv_rows / rows;
  if (from_qkv) args.rope = lab.random({2, 200, (h.rotary ? h.rotary : h.dim) / 2});
  return args;
}

// The values of parts are rounded to f16, too, beside a cache that is not f32, and with MATRIX the
// weights.
Tolerance tolerance_of(const Lab& lab, const FusedAttention& args) {
  const bool by_matrices = lab.caps().variant.matrix && args.cache.type() == KvType::f16;
  const bool in_halves = args.cache.type() != KvType::f32 && (args.rope || args.parts.splits);
  return by_matrices || in_halves ? rounded : tolerance;
}

// make(args), whose parts, if there are any, are put together.
gpu::Work whole(Lab& lab, FusedAttention args, auto make) {
  if (!args.parts.splits) return make(args);
  gpu::Work work;
  args.parts.words = work.add_scratch({args.parts.size()}, gpu::Type::u32);
  const gpu::View out = std::exchange(args.out, {});
  work.append(make(args));
  work.append(attention_combine(lab.caps(), {.parts = args.parts, .out = out}));
  return work;
}

// As the wrapper chooses.
void choose(Lab& lab, const FusedAttention& args) {
  lab.check(whole(lab, args, [&](const auto& a) { return fused_attention(lab.caps(), a); }),
            tolerance_of(lab, args));
}

void run(Lab& lab, const FusedAttention& args) {
  lab.every<FusedAttention::Overrides>(
      fused_attention_kernel,
      [&](auto over) {
        return whole(lab, args,
                     [&](const auto& a) { return fused_attention(lab.caps(), a, over); });
      },
      tolerance_of(lab, args));
  // Of MATRIX every() has few of the sizes that its wrapper chooses where memory is small.
  if (lab.caps().variant.matrix) choose(lab, args);
}

}  // namespace

KERNEL_TEST(fused_attention) {
  // Ratios of heads around a team's four, at lengths around the keys that a workgroup holds at once
  // and a split has, with all of a head rotated and with a part.
  constexpr KvType types[] = {KvType::f16, KvType::f32, KvType::q8_0};
  for (KvType type : types)
    for (bool from_qkv : {true, false}) {
      const bool q8 = type == KvType::q8_0;
      if (q8 && from_qkv) continue;
      for (const Heads h :
           {Heads{1, 1, 128}, {10, 2, 128, 64}, {3, 1, 64}, {7, 1, 64}, {8, 2, 16, 8}})
        for (uint32_t position : {0u, 130u})
          if (!q8 || h.dim % 32 == 0)
            run(lab, arguments(lab, h, lab.slots({position}), position + 1, type, from_qkv, 4));
      for (uint32_t position : {1u, 2u, 15u, 16u, 31u, 32u, 33u, 63u, 64u, 65u, 127u, 128u, 256u})
        for (uint32_t dim : {64u, 16u, 128u, 32u})
          if (!q8 || dim % 32 == 0)
            run(lab, arguments(lab, {4, 2, dim}, lab.slots({position}), position + 1, type,
                               from_qkv, position % 3 * 4));
    }
  for (const Heads h : {Heads{1, 1, 8}, {3, 1, 16}, {3, 1, 32}, {2, 1, 128}, {2, 2, 256}})
    for (KvType type : types)
      if (h.dim <= 16 * (lab.caps().variant.subgroups ? lab.caps().min_subgroup_size : 1) &&
          (type != KvType::q8_0 || h.dim % 32 == 0))
        choose(lab, arguments(lab, h, lab.slots({70}), 71, type,
                              type != KvType::q8_0 && (type == KvType::f16) == (h.heads != 2),
                              h.dim % 16 ? 0 : 4));

  // Slots of their own lengths, one stopped and one beyond its capacity, in every layout, with and
  // without a window.
  const gpu::View slots = lab.slots({0, 99, 40, 70, 130}, 2);
  const gpu::View block_table = lab.words({5, 7}, [](size_t i) { return uint32_t(i * 11 % 35); });
  for (KvLayout layout : {KvLayout::contiguous, KvLayout::ring, KvLayout::paged})
    for (KvType type : types)
      for (bool from_qkv : {true, false})
        for (uint32_t window : {0u, 1u, 50u})
          for (uint32_t dim : {64u, 16u, 32u, 128u}) {
            if (type == KvType::q8_0 && (from_qkv || dim % 32 != 0)) continue;
            const bool paged = layout == KvLayout::paged;
            if (dim == 128 && !(paged && window == 50)) continue;
            for (uint32_t splits : {0u, 4u}) {
              const bool both = paged && (!window || dim == 128);
              if (!both && (splits != 0) != (window != 0)) continue;
              FusedAttention args = arguments(lab, {3, 1, dim}, slots, 560, type, from_qkv, splits);
              args.cache.layout = layout;
              args.cache.capacity = layout == KvLayout::ring ? 64 : 112;
              if (paged) args.cache.page_size = 16, args.cache.block_table = block_table;
              args.interleaved = window == 1;
              args.scale = 0.5f, args.attn_softcap = window ? 1.5f : 0.0f;
              args.sliding_window = window;
              run(lab, args);
            }
          }

  // A block that the cache does not have; a key that takes everything.
  FusedAttention bad = arguments(lab, {4, 1, 16}, lab.slots({5}), 8, KvType::f16, true);
  bad.cache.layout = KvLayout::paged, bad.cache.capacity = 8, bad.cache.page_size = 4;
  bad.cache.block_table = lab.words({1, 2}, [](size_t) { return 9; });
  choose(lab, bad);
  FusedAttention far = arguments(lab, {2, 1, 16}, lab.slots({69}), 70, KvType::f32, false);
  far.qkv = lab.values({1, 32}, [](size_t) { return 1.0f; });
  for (float sign : {-1.0f, 1.0f}) {
    far.cache.k = lab.values(
        {70, 1, 16}, [&](size_t i) { return i == 33 * 16 ? sign * 1e5f : 0.01f * float(i % 7); });
    choose(lab, far);
  }
  // Long, whole and in parts.
  for (uint32_t splits : {0u, 8u, 32u})
    choose(lab,
           arguments(lab, {2, 1, 16}, lab.slots({65'535}), 65'536, KvType::f16, false, splits));

  const auto refuses_parts = [&](std::string_view message, AttentionParts parts) {
    parts.words = lab.output({1000}, gpu::Type::u32);
    FusedAttention args = bad;
    args.parts = parts;
    lab.refuses(message, [&] { fused_attention(lab.caps(), args); });
  };
  refuses_parts("6 splits, a multiple of 4", {.splits = 6});
  refuses_parts("are 2560 words, parts are [1000] u32",
                {.rows = 1, .heads = 4, .head_dim = 16, .splits = 64, .f16 = true});
  refuses_parts("parts are of [1, 4, 16], out would be [1, 4, 16] f16",
                {.rows = 1, .heads = 4, .head_dim = 16, .splits = 4});
  lab.refuses("WINDOWED is false", [&] {
    FusedAttention args = bad;
    args.sliding_window = 4;
    fused_attention(lab.caps(), args, {.head_dim = 16, .key_lanes = 1});
  });
  lab.refuses("PAGED is false, kv_layout is 2",
              [&] { fused_attention(lab.caps(), bad, {.head_dim = 16, .key_lanes = 1}); });
  lab.refuses("not in fours of elements", [&] {
    FusedAttention args = bad;
    args.rope = lab.random({2, 3, 1});
    fused_attention(lab.caps(), args);
  });
  lab.refuses("SPLIT is true, parts are absent", [&] {
    fused_attention(lab.caps(), bad, {.split = true, .head_dim = 16, .key_lanes = 1});
  });
  lab.refuses("3 heads do not share 2", [&] {
    fused_attention(lab.caps(), arguments(lab, {3, 2, 16}, lab.slots({5}), 6, KvType::f16, false));
  });
  lab.refuses("qkv is [1, 256] f32, want [1, 96]", [&] {
    FusedAttention args = bad;
    args.qkv = lab.random({1, 256});
    fused_attention(lab.caps(), args);
  });
  lab.refuses("HEAD_DIM is 1", [&] {
    FusedAttention args = bad;
    args.cache.k = args.cache.v = lab.zeros({8, 1, 5});
    fused_attention(lab.caps(), args);
  });
  lab.refuses("a multiple of 32 elements, not 48", [&] { lab.cache(KvType::q8_0, 8, 1, 48); });
  lab.refuses("slots are absent", [&] {
    FusedAttention args = bad;
    args.slots = {};
    fused_attention(lab.caps(), args, {.head_dim = 16, .key_lanes = 1});
  });
  lab.refuses("FROM_QKV is false", [&] {
    fused_attention(lab.caps(), bad, {.from_qkv = false, .head_dim = 16, .key_lanes = 1});
  });
  lab.refuses("HEAD_DIM is 8, k is",
              [&] { fused_attention(lab.caps(), bad, {.head_dim = 8, .key_lanes = 1}); });
}

}  // namespace ms
