// gather_test.cpp: the cases of gather.
#include "kernels/gather/gather.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(gather) {
  struct Case {
    uint32_t tokens, hidden, vocab;
  };
  for (Case c : {Case{1, 4, 3}, {5, 33, 7}, {3, 64, 50}, {2, 256, 256}, {3, 512, 768}})
    for (bool transpose : {false, true})
      for (WeightType type : weight_types()) {
        if ((transpose ? c.vocab : c.hidden) % info(tensor_type(type)).block_size != 0) continue;
        const uint32_t rows = transpose ? c.hidden : c.vocab, cols = transpose ? c.vocab : c.hidden;
        const Weight tables[] = {lab.weight(type, rows, cols), lab.weight(type, rows, cols, 8)};
        Gather args{.indices = lab.words({3 + 2 * c.tokens},
                                         [&](size_t i) {
                                           return i == 5 ? c.vocab : uint32_t(i * 7919) % c.vocab;
                                         }),  // one is outside
                    .table = {},
                    .y = lab.output({c.tokens, c.hidden}),
                    .transpose = transpose,
                    .index_offset = 3,
                    .index_stride = 2};
        lab.every<Gather::Overrides>(gather_kernel, [&](auto over) {
          args.table = tables[over.row_tile > 1];
          return gather(lab.caps(), args, over);
        });
      }
  // A tail beside other memory, which stays as it is: 33 elements of a buffer of 36.
  const gpu::View whole = lab.values({36}, [](size_t i) { return float(i); });
  lab.device.submit(
      lab.device.record(gather(lab.caps(), {.indices = lab.words({1}, [](size_t) { return 1u; }),
                                            .table = lab.weight(WeightType::f16, 5, 33),
                                            .y = whole.slice(0, {1, 33})})));
  const auto after = lab.read(whole);
  for (uint32_t i = 33; i < 36; ++i)
    if (after[i] != float(i)) fail("gather: element {} beyond y became {}", i, after[i]);

  // A table beyond one binding, which holds 64 of its rows: ids on both sides of every bound, and
  // two beyond the last.
  for (WeightType type : weight_types())
    for (uint32_t tile : {1u, 8u})
      for (uint32_t vocab : {65u, 128u, 191u}) {
        Gather args{.indices = lab.words({8},
                                         [&](size_t i) {
                                           return std::array{0u,        63u,        64u,
                                                             vocab - 1, vocab - 66, vocab / 2,
                                                             vocab,     ~0u}[i];
                                         }),
                    .table = lab.weight(type, vocab, 256, tile),
                    .y = lab.output({8, 256})};
        const auto caps = lab.with_bindings_of(4 * quant_words(type, 64, 256));
        if (caps.max_binding_bytes < args.y.bytes()) continue;  // two bits a weight
        Gather::Overrides over{.weight_type = uint32_t(type), .row_tile = tile};
        for (bool use_vec4 : {false, true}) {
          over.use_vec4 = use_vec4;
          lab.check_parts(gather(lab.caps(), args, over), gather(caps, args, over), caps,
                          (vocab + 63) / 64);
        }
      }
  const auto small = lab.with_bindings_of(1024);
  const Gather wide{.indices = lab.words({1}, [](size_t) { return 0u; }),
                    .table = lab.weight(WeightType::f32, 64, 64),
                    .y = lab.output({1, 64}),
                    .transpose = true};
  lab.refuses("holds, 1024 bytes", [&] { gather(small, wide); });

  // A large vocabulary, its first and last ids.
  lab.check(gather(lab.caps(),
                   {.indices = lab.words({4},
                                         [](size_t i) {
                                           return std::array{0u, 262'143u, 131'072u, 262'144u}[i];
                                         }),
                    .table = lab.weight(WeightType::q4_0, 262'144, 32),
                    .y = lab.output({4, 32})}));
  // Beyond 65,535 workgroups.
  const Gather many{.indices = lab.words({270'000}, [](size_t i) { return uint32_t(i % 5); }),
                    .table = lab.weight(WeightType::q8_0, 5, 64),
                    .y = lab.output({270'000, 64})};
  lab.check(gather(lab.caps(), many, {.workgroup_size = 64, .weight_type = 3}));
  lab.check(gather(lab.caps(), many));
  lab.refuses("USE_VEC4", [&] {
    gather(lab.caps(),
           {.indices = many.indices,
            .table = lab.weight(WeightType::f32, 5, 6),
            .y = lab.output({1, 6})},
           {.use_vec4 = true});
  });
}

}  // namespace ms
