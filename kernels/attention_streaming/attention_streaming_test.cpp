// attention_streaming_test.cpp: the cases of attention_streaming.
#include "kernels/attention_streaming/attention_streaming.hpp"

#include "kernels/lab.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

// Scores of a few units in f32, and sums of as many weights as there are keys.
constexpr Tolerance tolerance{.abs = 2e-6, .rel = 5e-5};

// Slots at positions; `stopped` is the one that is not running.
gpu::View slots_at(Lab& lab, const std::vector<uint32_t>& positions, size_t stopped) {
  return lab.words({positions.size(), sizeof(Slot) / 4}, [&](size_t i) {
    const size_t slot = i / (sizeof(Slot) / 4), word = i % (sizeof(Slot) / 4);
    return word == 1 ? positions[slot] : word == 3 ? uint32_t(slot == stopped) : 7u;
  });
}

}  // namespace

KERNEL_TEST(attention_streaming) {
  const auto every = [&](AttentionStreaming args, KvCache f32, KvCache f16) {
    lab.every<AttentionStreaming::Overrides>(
        attention_streaming_kernel,
        [&](auto over) {
          args.cache = over.f16_kv ? f16 : f32;
          return attention_streaming(lab.caps(), args, over);
        },
        tolerance);
  };

  struct Case {
    uint32_t rows, heads, kv_heads, head_dim, start_pos, kv_len;
    float softcap;
    uint32_t window;
    bool causal;
  };
  // head_dim around a workgroup of either size and its multiples; kv_len around them; none; fewer
  // keys than the queries are at, and queries before all keys of a window.
  for (Case c : {Case{1, 1, 1, 1, 0, 1, 0, 0, true},
                 {0, 2, 1, 8, 0, 9, 0, 0, true},
                 {3, 16, 1, 5, 7, 10, 0, 0, true},
                 {2, 4, 2, 63, 60, 62, 0, 0, true},
                 {3, 2, 2, 64, 62, 65, 2, 0, true},
                 {2, 3, 1, 65, 126, 128, 0, 5, true},
                 {3, 2, 1, 127, 127, 130, 0, 0, true},
                 {1, 2, 1, 129, 200, 201, 0, 64, true},
                 {2, 32, 2, 80, 30, 32, 1.5f, 0, true},
                 {2, 2, 1, 255, 3, 5, 0, 0, true},
                 {2, 2, 1, 256, 255, 257, 0, 0, false},
                 {9, 2, 2, 16, 4, 13, 0, 6, false},
                 {5, 2, 1, 16, 0, 0, 0, 0, true},
                 {5, 2, 1, 16, 40, 17, 0, 0, true},
                 {4, 2, 1, 16, 40, 42, 0, 1, true},
                 {4, 2, 1, 16, 40, 20, 0, 8, true}}) {
    const gpu::Shape shape{c.rows, c.heads, c.head_dim};
    every({.q = lab.random(shape, -3, 3),
           .cache = {},
           .out = lab.output(shape),
           .step = {.start_pos = c.start_pos},
           .kv_len = c.kv_len,
           .is_causal = c.causal,
           .attn_softcap = c.softcap,
           .sliding_window = c.window},
          lab.cache(KvType::f32, c.kv_len + 3, c.kv_heads, c.head_dim),
          lab.cache(KvType::f16, c.kv_len + 3, c.kv_heads, c.head_dim));
  }

  // Slots of their own lengths, one stopped, and rows of one slot, in every layout, with and
  // without a window.
  const gpu::View slots = slots_at(lab, {0, 99, 40, 70}, 2);
  const gpu::View block_table = lab.words({4, 7}, [](size_t i) { return uint32_t(i * 11 % 28); });
  for (KvLayout layout : {KvLayout::contiguous, KvLayout::ring, KvLayout::paged})
    for (const StepRows& step :
         {StepRows{.slots = slots}, StepRows{.slots = slots, .prefill = true, .slot = 1}})
      for (uint32_t window : {0u, 1u, 50u}) {
        KvCache caches[] = {lab.cache(KvType::f32, 448, 1, 15), lab.cache(KvType::f16, 448, 1, 15)};
        for (KvCache& cache : caches) {
          cache.layout = layout;
          cache.capacity = layout == KvLayout::ring ? 64 : 112;
          if (layout == KvLayout::paged) cache.page_size = 16, cache.block_table = block_table;
        }
        every({.q = lab.random({4, 3, 15}),
               .cache = {},
               .out = lab.output({4, 3, 15}),
               .step = step,
               .scale = 0.5f,
               .attn_softcap = window ? 1.5f : 0.0f,
               .sliding_window = window},
              caches[0], caches[1]);
      }

  // One key of 1e5, which takes or leaves everything, in the first keys and in later ones; equal
  // keys; a block that the cache does not have.
  for (float sign : {-1.0f, 1.0f})
    for (size_t key : {3u, 150u})
      lab.check(attention_streaming(lab.caps(),
                                    {.q = lab.values({1, 2, 8}, [](size_t) { return 1.0f; }),
                                     .cache = {.k = lab.values({170, 1, 8},
                                                               [&](size_t i) {
                                                                 return i == key * 8
                                                                            ? sign * 1e5f
                                                                            : 0.01f * float(i % 7);
                                                               }),
                                               .v = lab.random({170, 1, 8})},
                                     .out = lab.output({1, 2, 8}),
                                     .kv_len = 170,
                                     .is_causal = false,
                                     .attn_softcap = sign > 0 ? 0.0f : 30.0f}),
                tolerance);
  lab.check(attention_streaming(lab.caps(),
                                {.q = lab.random({1, 1, 8}),
                                 .cache = {.k = lab.values({65, 1, 8}, [](size_t) { return 0.5f; }),
                                           .v = lab.random({65, 1, 8})},
                                 .out = lab.output({1, 1, 8}),
                                 .kv_len = 65,
                                 .is_causal = false}),
            tolerance);
  KvCache bad = lab.cache(KvType::f32, 8, 1, 8);
  bad.layout = KvLayout::paged, bad.page_size = 4;
  bad.block_table = lab.words({1, 2}, [](size_t) { return 9; });
  lab.check(attention_streaming(lab.caps(), {.q = lab.random({1, 1, 8}),
                                             .cache = bad,
                                             .out = lab.output({1, 1, 8}),
                                             .step = {.start_pos = 2},
                                             .kv_len = 3}),
            tolerance);

  // Every ratio of heads that is in use, and odd head_dims, as the wrapper chooses.
  for (uint32_t ratio = 1; ratio <= 16; ++ratio) {
    const uint32_t dim = std::array{33u, 96u, 127u, 255u, 256u}[ratio % 5];
    for (KvType type : {KvType::f32, KvType::f16})
      lab.check(attention_streaming(lab.caps(), {.q = lab.random({2, 2 * ratio, dim}, -2, 2),
                                                 .cache = lab.cache(type, 40, 2, dim),
                                                 .out = lab.output({2, 2 * ratio, dim}),
                                                 .step = {.start_pos = 38},
                                                 .kv_len = 40}),
                tolerance);
  }

  // Many keys, all of them or a window's; more than 65,535 workgroups.
  for (uint32_t window : {0u, 1000u})
    lab.check(attention_streaming(lab.caps(), {.q = lab.random({1, 1, 4}),
                                               .cache = lab.cache(KvType::f16, 131'072, 1, 4),
                                               .out = lab.output({1, 1, 4}),
                                               .step = {.start_pos = 131'071},
                                               .kv_len = 131'072,
                                               .sliding_window = window}),
              tolerance);
  lab.check(attention_streaming(lab.caps(), {.q = lab.random({16'385, 4, 2}),
                                             .cache = lab.cache(KvType::f32, 3, 2, 2),
                                             .out = lab.output({16'385, 4, 2}),
                                             .kv_len = 3}),
            tolerance);

  const AttentionStreaming args{.q = lab.random({2, 2, 8}),
                                .cache = lab.cache(KvType::f32, 4, 1, 8),
                                .out = lab.output({2, 2, 8}),
                                .kv_len = 4};
  const auto refuses = [&](std::string_view what, auto change) {
    AttentionStreaming other = args;
    change(other);
    lab.refuses(what, [&] { attention_streaming(lab.caps(), other); });
  };
  refuses("q is [2, 16]", [](auto& a) { a.q.shape = {2, 16}; });
  refuses("head_dim is 257", [&](auto& a) {
    a.q = a.out = lab.random({1, 1, 257});
    a.cache = lab.cache(KvType::f32, 1, 1, 257);
  });
  refuses("3 heads do not share 2", [&](auto& a) {
    a.q = a.out = lab.random({1, 3, 8});
    a.cache = lab.cache(KvType::f32, 1, 2, 8);
  });
  refuses("F16_KV is false, k is [4, 1, 9] u32", [&](auto& a) {
    a.q = a.out = lab.random({2, 2, 32});
    a.cache = lab.cache(KvType::q8_0, 4, 1, 32);
  });
  refuses("out is [1, 2, 8]", [&](auto& a) { a.out = lab.output({1, 2, 8}); });
  refuses("want [kv_rows, 1, 8]", [&](auto& a) { a.cache = lab.cache(KvType::f32, 4, 1, 7); });
  refuses("a ring of 4 does not hold a window of 4 for 2 rows", [](auto& a) {
    a.cache.layout = KvLayout::ring;
    a.sliding_window = 4;
  });
  lab.refuses("F16_KV is true", [&] { attention_streaming(lab.caps(), args, {.f16_kv = true}); });
  lab.refuses("WORKGROUP_SIZE is 32",
              [&] { attention_streaming(lab.caps(), args, {.workgroup_size = 32}); });
}

}  // namespace ms
