// split_qkv_test.cpp: the cases of split_qkv.
#include "kernels/split_qkv/split_qkv.hpp"

#include "kernels/lab.hpp"

namespace ms {

namespace {

void run(Lab& lab, SplitQkv args) {
  const bool f16 = args.cache.k.type == gpu::Type::f16;
  const Tolerance tolerance = f16 ? f16_storage : Tolerance{};
  lab.every<SplitQkv::Overrides>(
      split_qkv_kernel, [&](auto over) { return split_qkv(lab.caps(), args, over); }, tolerance);
}

// Numbers whose integers of q8_0 no rounding on the way changes: of each 32 one is 127 units, the
// others a quarter of one beside a whole number; or with norms, whose sums of squares must be
// certain, all are 127 units. The last 32 are zeros, and the others of the last row beyond what an
// f16 scale can say.
gpu::View of_certain_integers(Lab& lab, gpu::Shape shape, bool normed) {
  return lab.values(shape, [=](size_t i) {
    const size_t row = i / shape[1];
    const float unit = row + 1 == shape[0] ? 1e8f : 0.0625f;
    const float sign = i * 7 % 11 < 5 ? -1 : 1;
    if (!normed && i % shape[1] + 32 >= shape[1]) return 0.0f;
    if (normed || i % 32 == 5) return sign * 127 * unit;
    return unit * (float(i * 37 % 253) - 126 + 0.25f * (float(i % 3) - 1));
  });
}

// Angles of as many quarters of a turn as a position has: exact.
gpu::View quarter_turns(Lab& lab, uint32_t positions, uint32_t half) {
  return lab.values({2, positions, half}, [=](size_t i) {
    constexpr float cosines[] = {1, 0, -1, 0};
    return cosines[(i / half + 3 * (i / half / positions)) % positions % 4];
  });
}

}  // namespace

KERNEL_TEST(split_qkv) {
  // Plain: heads around a workgroup's lanes, odd ones, and unlike sizes of k and v.
  for (uint32_t dim : {1u, 3u, 32u, 63u, 64u, 65u, 256u})
    for (bool f16 : {false, true}) {
      const uint32_t padded = f16 ? (dim + 1) / 2 * 2 : dim;
      SplitQkv args{.qkv = lab.random({3, 4 * dim}),
                    .q = lab.output({3, 2 * dim}),
                    .cache = {.k = lab.output({3, padded}, f16 ? gpu::Type::f16 : gpu::Type::f32),
                              .v = lab.output({3, padded}, f16 ? gpu::Type::f16 : gpu::Type::f32),
                              .layout = KvLayout::plain}};
      run(lab, args);
      args.head_dim = dim;
      run(lab, args);
      if (dim < 2) continue;
      args.rope = lab.random({2, 5, dim / 2});
      args.step.start_pos = 3;  // the last row is beyond the tables
      for (bool interleaved : {false, true}) args.interleaved = interleaved, run(lab, args);
      args.norms = lab.random({2, dim});
      run(lab, args);
      args.rope = {};
      run(lab, args);
    }
  run(lab, {.qkv = lab.random({2, 5 + 3 + 70}),
            .q = lab.output({2, 5}),
            .cache = {.k = lab.output({2, 3}), .v = lab.output({2, 70}), .layout = KvLayout::plain},
            .k_size = 3});

  // Caches: three slots at positions of their own, the second stopped; a prefill of one of them; no
  // slots.
  constexpr uint32_t heads = 3, kv_heads = 2, dim = 6, cols = (heads + 2 * kv_heads) * dim;
  const gpu::View slots = lab.slots({7, 2, 11}, 1);
  const gpu::View block_table = lab.words({3, 3}, [](size_t i) { return uint32_t(8 - i); });
  for (KvType type : {KvType::f32, KvType::f16})
    for (KvLayout layout : {KvLayout::contiguous, KvLayout::ring, KvLayout::paged})
      for (StepRows step :
           {StepRows{.slots = slots}, StepRows{.slots = slots, .prefill = true, .slot = 2},
            StepRows{.start_pos = 9}}) {
        const uint32_t capacity =
            layout == KvLayout::ring ? 5 : 12;  // paged and contiguous: prefill runs out of rows
        // Memory that is not all written must hold no NaN, which equals nothing.
        KvCache cache = lab.cache(type, 36, kv_heads, dim);
        cache.layout = layout, cache.capacity = capacity, cache.page_size = 4;
        if (layout == KvLayout::paged) cache.block_table = block_table;
        SplitQkv args{.qkv = lab.random({3, cols}),
                      .q = lab.output({3, heads * dim}),
                      .cache = cache,
                      .step = step,
                      .head_dim = dim,
                      .rope = lab.random({2, 20, 2})};
        run(lab, args);
        args.norms = lab.random({2, dim});
        run(lab, args);
        // Of q8_0: one scale a head, several, and an odd number of them.
        if (type == KvType::f16) continue;
        for (uint32_t width : {32u, 64u, 96u, 256u}) {
          const auto rounded = [&](bool rope, bool norms) {
            SplitQkv q8 = args;
            const uint32_t columns = (heads + 2 * kv_heads) * width;
            q8.qkv = of_certain_integers(lab, {3, columns}, norms);
            q8.q = lab.output({3, heads * width});
            q8.head_dim = width;
            const KvCache memory = lab.cache(KvType::q8_0, 36, kv_heads, width);
            q8.cache.k = memory.k, q8.cache.v = memory.v;
            q8.rope = rope ? quarter_turns(lab, 20, width / 2) : gpu::View{};
            q8.interleaved = width == 64;
            q8.norms = norms ? lab.values({2, width}, [](size_t i) { return i % 3 ? 1.f : -1.f; })
                             : gpu::View{};
            run(lab, q8);
          };
          rounded(width < 256, false);
          rounded(width == 64, width != 32);
        }
      }

  // A block table that names a block the cache does not have, values beyond f16, more than 65,535
  // workgroups.
  SplitQkv bad{.qkv = lab.random({1, 3}),
               .q = lab.output({1, 1}),
               .cache = {.k = lab.random({4, 1, 1}),
                         .v = lab.random({4, 1, 1}),
                         .layout = KvLayout::paged,
                         .page_size = 2,
                         .block_table = lab.words({1, 2}, [](size_t) { return 7; })},
               .head_dim = 1};
  lab.check(split_qkv(lab.caps(), bad));
  run(lab, {.qkv = lab.values({1, 6}, [](size_t i) { return i % 2 ? 1e5f : -1e5f; }),
            .q = lab.output({1, 2}),
            .cache = {.k = lab.output({1, 2}, gpu::Type::f16),
                      .v = lab.output({1, 2}, gpu::Type::f16),
                      .layout = KvLayout::plain}});
  lab.check(split_qkv(lab.caps(), {.qkv = lab.random({66'000, 3}),
                                   .q = lab.output({66'000, 1}),
                                   .cache = {.k = lab.output({66'000, 1}),
                                             .v = lab.output({66'000, 1}),
                                             .layout = KvLayout::plain}}));

  // Rows of more than one workgroup, with sizes unlike each other.
  const SplitQkv wide{.qkv = lab.random({200, 1500}),
                      .q = lab.output({200, 700}),
                      .cache = {.k = lab.output({200, 300}),
                                .v = lab.output({200, 500}),
                                .layout = KvLayout::plain},
                      .head_dim = 100,
                      .k_size = 300};
  run(lab, wide);
  lab.check(split_qkv(lab.caps(), wide));

  lab.refuses("do not fit a ring of 4", [&] {
    split_qkv(lab.caps(), {.qkv = lab.random({5, 3}),
                           .q = lab.output({5, 1}),
                           .cache = {.k = bad.cache.k, .v = bad.cache.v, .layout = KvLayout::ring},
                           .head_dim = 1});
  });
  lab.refuses("not whole heads of 2", [&] {
    auto args = bad;
    args.head_dim = 2;
    split_qkv(lab.caps(), args);
  });
  lab.refuses("block_table is [1, 2]", [&] {
    auto args = bad;
    args.cache.capacity = 6;
    split_qkv(lab.caps(), args);
  });
  lab.refuses("plain k and v are f32 or f16, not q8_0", [&] {
    const KvCache q8 = lab.cache(KvType::q8_0, 1, 1, 32);
    split_qkv(lab.caps(), {.qkv = lab.random({1, 96}),
                           .q = lab.output({1, 32}),
                           .cache = {.k = q8.k, .v = q8.v, .layout = KvLayout::plain},
                           .head_dim = 32});
  });
  lab.refuses("a multiple of 32 elements, not 16", [&] {
    split_qkv(lab.caps(), {.qkv = lab.random({1, 48}),
                           .q = lab.output({1, 16}),
                           .cache = {.k = lab.zeros({1, 1, 5}), .v = lab.zeros({1, 1, 5})},
                           .head_dim = 16});
  });
  lab.refuses("want [kv_rows, 1, 1]", [&] {
    auto args = bad;
    args.cache.v = lab.random({3, 1, 1});
    split_qkv(lab.caps(), args);
  });
}

}  // namespace ms
