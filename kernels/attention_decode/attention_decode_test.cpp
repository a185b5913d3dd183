// attention_decode_test.cpp: the cases of attention_decode.
#include "kernels/attention_decode/attention_decode.hpp"

#include "kernels/lab.hpp"

namespace ms {

namespace {

gpu::View zeros(Lab& lab, uint64_t words) {
  return lab.words({words}, [](size_t) { return 0; });
}

void run(Lab& lab, AttentionDecode args) {
  args.parts = zeros(lab, attention_part_words(args.q.shape[0], args.q.shape[1], args.q.shape[2],
                                               std::max(1u, args.splits)));
  lab.every<AttentionDecode::Overrides>(
      attention_decode_kernel, [&](auto over) { return attention_decode(lab.caps(), args, over); },
      {2e-6, 5e-5});
}

}  // namespace

KERNEL_TEST(attention_decode) {
  struct Heads {
    uint32_t heads, kv_heads, head_dim;
  };
  // Every head_dim and ratio of heads at a few lengths; one of them at the lengths around four keys
  // a lane, a workgroup's keys and a chunk, which is 1024 or 2048 keys over the heads that share
  // it.
  for (KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
    const bool q8 = type == KvType::q8_0;
    for (const auto [heads, kv_heads, dim] : {Heads{1, 1, 1},
                                              {3, 1, 3},
                                              {8, 2, 80},
                                              {16, 1, 128},
                                              {5, 1, 66},
                                              {2, 1, 256},
                                              {14, 2, 64},
                                              {4, 2, 32},
                                              {3, 1, 96}})
      for (uint32_t kv_len : {1u, 9u, 300u}) {
        if (dim % 32 != 0 ? q8 : !q8 && dim == 96) continue;
        run(lab, {.q = lab.random({1, heads, dim}, -2, 2),
                  .cache = lab.cache(type, kv_len, kv_heads, dim),
                  .out = lab.output({1, heads, dim}),
                  .kv_len = kv_len,
                  .splits = 3});
      }
    const uint32_t dim = q8 ? 32 : 8;
    for (uint32_t kv_len :
         {0u, 7u, 8u, 63u, 64u, 65u, 255u, 256u, 257u, 511u, 512u, 513u, 1000u, 1025u, 2049u})
      run(lab, {.q = lab.random({1, 4, dim}, -2, 2),
                .cache = lab.cache(type, kv_len + 1, 2, dim),
                .out = lab.output({1, 4, dim}),
                .kv_len = kv_len,
                .splits = 5});
  }

  // Slots of their own lengths, one stopped, and rows of one slot, in every layout, with and
  // without a window.
  const gpu::View slots = lab.slots({0, 99, 40, 70}, 2);
  const gpu::View block_table = lab.words({4, 7}, [](size_t i) { return uint32_t(i * 11 % 28); });
  for (KvLayout layout : {KvLayout::contiguous, KvLayout::ring, KvLayout::paged})
    for (const StepRows& step :
         {StepRows{.slots = slots}, StepRows{.slots = slots, .prefill = true, .slot = 1}})
      for (uint32_t window : {0u, 1u, 50u}) {
        const KvType type = window == 0 ? KvType::f32 : window == 1 ? KvType::f16 : KvType::q8_0;
        const uint32_t dim = type == KvType::q8_0 ? 32 : 16;
        KvCache cache = lab.cache(type, 448, 1, dim);
        cache.layout = layout;
        cache.capacity = layout == KvLayout::ring ? 64 : 112;
        if (layout == KvLayout::paged) cache.page_size = 16, cache.block_table = block_table;
        run(lab, {.q = lab.random({4, 3, dim}),
                  .cache = cache,
                  .out = lab.output({4, 3, dim}),
                  .step = step,
                  .scale = 0.5f,
                  .attn_softcap = window ? 1.5f : 0.0f,
                  .sliding_window = window,
                  .splits = 4});
      }

  // One key of 1e5, which takes or leaves everything; equal keys; a block that the cache does not
  // have.
  for (float sign : {-1.0f, 1.0f})
    run(lab, {.q = lab.values({1, 2, 8}, [](size_t) { return 1.0f; }),
              .cache = {.k = lab.values({70, 1, 8},
                                        [&](size_t i) {
                                          return i == 33 * 8 ? sign * 1e5f : 0.01f * float(i % 7);
                                        }),
                        .v = lab.random({70, 1, 8})},
              .out = lab.output({1, 2, 8}),
              .kv_len = 70,
              .attn_softcap = sign > 0 ? 0.0f : 30.0f});
  run(lab, {.q = lab.random({1, 1, 8}),
            .cache = {.k = lab.values({65, 1, 8}, [](size_t) { return 0.5f; }),
                      .v = lab.random({65, 1, 8})},
            .out = lab.output({1, 1, 8}),
            .kv_len = 65});
  AttentionDecode bad{.q = lab.random({1, 1, 8}),
                      .cache = lab.cache(KvType::f32, 8, 1, 8),
                      .out = lab.output({1, 1, 8}),
                      .kv_len = 3};
  bad.cache.layout = KvLayout::paged, bad.cache.page_size = 4,
  bad.cache.block_table = lab.words({1, 2}, [](size_t) { return 9; });
  lab.check(attention_decode(lab.caps(), bad));

  // Every ratio of heads that is in use, and odd head_dims, as the wrapper chooses.
  for (uint32_t ratio = 1; ratio <= 16; ++ratio) {
    const uint32_t dim = std::array{33u, 96u, 127u, 255u, 256u}[ratio % 5];
    for (KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
      if (type == KvType::q8_0 && dim % 32 != 0) continue;
      lab.check(attention_decode(lab.caps(), {.q = lab.random({1, 2 * ratio, dim}, -2, 2),
                                              .cache = lab.cache(type, 70, 2, dim),
                                              .out = lab.output({1, 2 * ratio, dim}),
                                              .kv_len = 70}),
                {.abs = 2e-6, .rel = 5e-5});
    }
  }

  // Long, whole and split; what the wrapper chooses, with a window too.
  const AttentionDecode far{.q = lab.random({1, 2, 4}),
                            .cache = lab.cache(KvType::f16, 131'072, 1, 4),
                            .out = lab.output({1, 2, 4}),
                            .kv_len = 131'072,
                            .parts = zeros(lab, attention_part_words(1, 2, 4, 128)),
                            .splits = 96};
  lab.check(attention_decode(lab.caps(), far));
  for (uint32_t window : {1000u, 100'000u}) {
    AttentionDecode near = far;
    near.sliding_window = window;
    lab.check(attention_decode(lab.caps(), near));
  }
  for (bool split : {false, true})
    lab.check(attention_decode(
        lab.caps(), far,
        {.f16_kv = true, .use_subgroups = false, .chunked = true, .split = split}));

  lab.refuses("SPLIT puts 770 words into parts", [&] {
    AttentionDecode args = far;
    args.parts = {}, args.splits = 64;
    attention_decode(lab.caps(), args, {.f16_kv = true, .use_subgroups = false, .split = true});
  });
  lab.refuses("129 splits", [&] {
    AttentionDecode args = far;
    args.splits = 129;
    attention_decode(lab.caps(), args, {.f16_kv = true, .use_subgroups = false, .split = true});
  });
  lab.refuses("HEAD_DIM 128 with heads of 4", [&] {
    attention_decode(lab.caps(), far, {.f16_kv = true, .use_subgroups = false, .head_dim = 128});
  });
  lab.refuses("257", [&] {
    attention_decode(lab.caps(), {.q = lab.random({1, 1, 257}),
                                  .cache = lab.cache(KvType::f32, 1, 1, 257),
                                  .out = lab.output({1, 1, 257}),
                                  .kv_len = 1});
  });
  lab.refuses("3 heads do not share 2", [&] {
    attention_decode(lab.caps(), {.q = lab.random({1, 3, 4}),
                                  .cache = lab.cache(KvType::f32, 1, 2, 4),
                                  .out = lab.output({1, 3, 4}),
                                  .kv_len = 1});
  });
  lab.refuses("a multiple of 32 elements, not 48", [&] {
    attention_decode(lab.caps(), {.q = lab.random({1, 1, 48}),
                                  .cache = {.k = lab.zeros({1, 1, 13}), .v = lab.zeros({1, 1, 13})},
                                  .out = lab.output({1, 1, 48}),
                                  .kv_len = 1});
  });
  lab.refuses("kv_len 9 on exceed", [&] {
    auto args = bad;
    args.kv_len = 9;
    attention_decode(lab.caps(), args);
  });
  lab.refuses("a window of 9 for 1", [&] {
    auto args = bad;
    args.cache.layout = KvLayout::ring, args.sliding_window = 9;
    attention_decode(lab.caps(), args);
  });
}

}  // namespace ms
