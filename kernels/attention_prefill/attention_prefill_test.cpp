// attention_prefill_test.cpp: the cases of attention_prefill.
#include "kernels/attention_prefill/attention_prefill.hpp"

#include "kernels/lab.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

gpu::View one_slot(Lab& lab, uint32_t slots, uint32_t slot, uint32_t position) {
  return lab.words({slots, sizeof(Slot) / 4},
                   [&](size_t i) { return i == slot * sizeof(Slot) / 4 + 1 ? position : i % 7; });
}

constexpr Tolerance tolerance{.abs = 2e-6, .rel = 5e-5};
// With MATRIX: a weight of a key is one f16 or the next, as exp has it.
constexpr Tolerance matrix_tolerance{.abs = 5e-4, .rel = 5e-4};

void check_every(Lab& lab, const AttentionPrefill& args) {
  for (bool matrix : {false, true})
    lab.every<AttentionPrefill::Overrides>(
        attention_prefill_kernel,
        [&](auto over) {
          require(over.matrix == matrix, "of another case");
          return attention_prefill(lab.caps(), args, over);
        },
        matrix ? matrix_tolerance : tolerance);
}

}  // namespace

KERNEL_TEST(attention_prefill) {
  struct Case {
    uint32_t rows, heads, kv_heads, head_dim, position;
    float softcap;
    uint32_t window;
    bool causal;
  };
  for (Case c : {Case{1, 1, 1, 1, 0, 0, 0, true},
                 {33, 3, 1, 64, 0, 0, 0, true},
                 {130, 2, 1, 128, 70, 0, 0, true},
                 {63, 4, 1, 65, 1, 3, 0, true},
                 {17, 2, 1, 127, 100, 0, 90, true},
                 {65, 4, 2, 5, 7, 0, 0, true},
                 {7, 16, 1, 80, 30, 2, 0, true},
                 {64, 2, 2, 33, 9, 0, 5, true},
                 {20, 2, 1, 256, 3, 0, 0, true},
                 {9, 2, 2, 16, 4, 0, 6, false},
                 {40, 6, 2, 32, 30, 0, 0, true},
                 {34, 2, 1, 96, 5, 2, 20, true}})
    for (KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
      if (type == KvType::q8_0 && c.head_dim % 32 != 0) continue;
      const uint32_t capacity = c.position + c.rows + 3;
      KvCache kv = lab.cache(type, 2 * capacity, c.kv_heads, c.head_dim, 1);
      kv.capacity = capacity;
      const gpu::Shape shape{c.rows, c.heads, c.head_dim};
      AttentionPrefill args{
          .q = lab.random(shape, -3, 3),
          .cache = kv,
          .out = lab.output(shape),
          .step = {.slots = one_slot(lab, 2, 1, c.position), .prefill = true, .slot = 1},
          .is_causal = c.causal,
          .attn_softcap = c.softcap,
          .sliding_window = c.window};
      check_every(lab, args);
    }

  // Without slots: fewer keys than queries would see, none, and a position beyond them.
  for (uint32_t kv_len : {0u, 1u, 15u, 16u, 17u, 300u}) {
    const gpu::Shape shape{5, 2, 16};
    AttentionPrefill args{.q = lab.random(shape),
                          .cache = lab.cache(KvType::f16, 300, 1, 16, 1),
                          .out = lab.output(shape),
                          .step = {.start_pos = 40},
                          .kv_len = kv_len};
    lab.check(attention_prefill(lab.caps(), args), tolerance);
  }
  // Around the 32 keys that MATRIX takes at a time.
  if (lab.caps().variant.matrix)
    for (uint32_t kv_len : {1u, 15u, 16u, 17u, 31u, 32u, 33u, 63u, 64u, 65u})
      lab.check(attention_prefill(lab.caps(),
                                  {.q = lab.random({17, 2, 64}),
                                   .cache = lab.cache(KvType::f16, 65, 1, 64, 1),
                                   .out = lab.output({17, 2, 64}),
                                   .kv_len = kv_len,
                                   .is_causal = false},
                                  {.f16_kv = true, .block_size = 128, .matrix = true}),
                matrix_tolerance);
  // A ring that has been overwritten, and pages in another order.
  {
    KvCache ring = lab.cache(KvType::f32, 12, 1, 8, 1);
    ring.layout = KvLayout::ring;
    ring.capacity = 12;
    const auto every = [&](const KvCache& kv, uint32_t position) {
      const gpu::Shape shape{4, 2, kv.head_dim()};
      const AttentionPrefill args{
          .q = lab.random(shape),
          .cache = kv,
          .out = lab.output(shape),
          .step = {.slots = one_slot(lab, 1, 0, position), .prefill = true}};
      check_every(lab, args);
    };
    every(ring, 21);
    for (KvType type : {KvType::f16, KvType::q8_0}) {
      KvCache paged = lab.cache(type, 32, 1, type == KvType::q8_0 ? 32 : 8, 1);
      paged.layout = KvLayout::paged;
      paged.page_size = 4;
      paged.block_table = lab.words({1, 8}, [](size_t i) { return uint32_t(i * 5 % 8); });
      every(paged, 17);
    }
  }
  // One key of 1e5 takes everything; all keys equal share evenly.
  {
    const gpu::Shape shape{3, 1, 4};
    KvCache kv{.k = lab.values({20, 1, 4}, [](size_t i) { return i / 4 == 1 ? 1e5f : 0.5f; }),
               .v = lab.random({20, 1, 4})};
    lab.check(attention_prefill(lab.caps(), {.q = lab.random(shape, 0.5f, 1),
                                             .cache = kv,
                                             .out = lab.output(shape),
                                             .step = {.start_pos = 10},
                                             .kv_len = 13}),
              tolerance);
    kv.k = lab.values({20, 1, 4}, [](size_t) { return 0.25f; });
    lab.check(attention_prefill(lab.caps(), {.q = lab.random(shape),
                                             .cache = kv,
                                             .out = lab.output(shape),
                                             .step = {.start_pos = 10},
                                             .kv_len = 13}),
              tolerance);
  }
  // Every ratio of heads that is in use, and odd head_dims, as the wrapper chooses.
  for (uint32_t ratio = 1; ratio <= 16; ++ratio) {
    const uint32_t dim = std::array{33u, 96u, 127u, 255u, 256u}[ratio % 5];
    for (KvType type : {KvType::f32, KvType::f16, KvType::q8_0}) {
      if (type == KvType::q8_0 && dim % 32 != 0) continue;
      lab.check(attention_prefill(lab.caps(), {.q = lab.random({3, 2 * ratio, dim}, -2, 2),
                                               .cache = lab.cache(type, 40, 2, dim, 1),
                                               .out = lab.output({3, 2 * ratio, dim}),
                                               .step = {.start_pos = 37},
                                               .kv_len = 40}),
                tolerance);
    }
  }
  // Many keys, all of them or a window's.
  for (uint32_t window : {0u, 1000u})
    lab.check(attention_prefill(lab.caps(), {.q = lab.random({2, 1, 8}),
                                             .cache = lab.cache(KvType::f16, 131'072, 1, 8, 1),
                                             .out = lab.output({2, 1, 8}),
                                             .step = {.start_pos = 131'070},
                                             .kv_len = 131'072,
                                             .sliding_window = window}),
              tolerance);
  const AttentionPrefill plain{.q = lab.random({1, 1, 8}),
                               .cache = lab.cache(KvType::f32, 16, 1, 8, 1),
                               .out = lab.output({1, 1, 8}),
                               .kv_len = 16};
  const auto refuses = [&](std::string_view what,
                           const std::function<void(AttentionPrefill&)>& change) {
    AttentionPrefill bad = plain;
    change(bad);
    lab.refuses(what, [&] { attention_prefill(lab.caps(), bad); });
  };
  refuses("kv_len 17 exceeds a capacity of 16", [](auto& a) { a.kv_len = 17; });
  refuses("scale is nan", [](auto& a) { a.scale = NAN; });
  refuses("attn_softcap is -1", [](auto& a) { a.attn_softcap = -1; });
  lab.refuses("USE_SUBGROUPS takes 8 lanes a subgroup", [&] {
    gpu::Caps caps = lab.caps();
    caps.min_subgroup_size = 4;
    attention_prefill(caps, plain, {.use_subgroups = true});
  });
  lab.refuses("head_dim is 300", [&] {
    attention_prefill(lab.caps(),
                      {.q = lab.random({1, 1, 300}),
                       .cache = {.k = lab.random({1, 1, 300}), .v = lab.random({1, 1, 300})},
                       .out = lab.output({1, 1, 300})});
  });
}

}  // namespace ms
