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
      for (WeightType type :
           {WeightType::f32, WeightType::f16, WeightType::bf16, WeightType::q8_0, WeightType::q4_0,
            WeightType::q4_1, WeightType::q4_k, WeightType::q6_k}) {
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
