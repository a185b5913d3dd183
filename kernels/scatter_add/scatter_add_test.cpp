// scatter_add_test.cpp: the cases of scatter_add.
#include "kernels/scatter_add/scatter_add.hpp"

#include "kernels/lab.hpp"
#include "kernels/moe_gather/moe_gather.hpp"

namespace ms {

KERNEL_TEST(scatter_add) {
  struct Case {
    uint32_t tokens, hidden, experts, k;
  };
  const auto expert = [](const Case& c) {
    return [c](size_t i) { return uint32_t((i / c.k * 5 + i % c.k) % c.experts); };
  };
  const auto every = [&](const Case& c, gpu::View outputs, Tolerance tolerance = {}) {
    const uint32_t rows = c.experts * c.tokens;
    const gpu::View offsets =
        lab.words({c.tokens, c.k}, [&](size_t i) { return uint32_t(i * 7919 % rows); });
    for (bool accumulate : {false, true}) {
      ScatterAdd args{.expert_outputs = outputs,
                      .indices = lab.words({c.tokens, c.k}, expert(c)),
                      .weights = lab.random({c.tokens, c.k}, 0, 1),
                      .output = accumulate ? lab.random({c.tokens, c.hidden})
                                           : lab.output({c.tokens, c.hidden}),
                      .accumulate = accumulate};
      lab.check(scatter_add(lab.caps(), args), tolerance);
      lab.every<ScatterAdd::Overrides>(
          scatter_add_kernel,
          [&](auto over) {
            args.token_offsets = over.dynamic_layout ? offsets : gpu::View{};
            return scatter_add(lab.caps(), args, over);
          },
          tolerance);
    }
  };
  for (Case c : {Case{0, 4, 2, 1},
                 {1, 1, 1, 1},
                 {1, 64, 8, 2},
                 {3, 21, 4, 2},   // 63 elements
                 {5, 13, 4, 4},   // 65
                 {16, 16, 8, 2},  // 256
                 {1, 1028, 3, 2},
                 {9, 100, 256, 8}})
    every(c, lab.random({c.experts * c.tokens, c.hidden}));
  // One outlier, which f32 adds to within 2^-24 of itself; what cancels.
  every({3, 8, 4, 2},
        lab.values({12, 8}, [](size_t i) { return i % 7 == 3 ? 1e5f
                                                  : i % 2    ? 1.f
                                                             : -1.f; }),
        {.abs = 1e-2, .rel = 2e-5});

  // What moe_gather sorted comes back to its tokens, in either layout.
  for (uint32_t most : {0u, 11u}) {
    const Case c{11, 12, 5, 2};
    const uint32_t rows = most ? c.experts * most : c.tokens * c.k;
    const MoeGather gather{.hidden = lab.random({c.tokens, c.hidden}),
                           .expert_indices = lab.words({c.tokens, c.k}, expert(c)),
                           .gathered = lab.output({rows, c.hidden}),
                           .token_counts = lab.output({c.experts}, gpu::Type::u32),
                           .token_map = lab.output({rows, 2}, gpu::Type::u32),
                           .token_offsets = lab.output({c.tokens, c.k}, gpu::Type::u32),
                           .row_experts = lab.output({rows}, gpu::Type::u32),
                           .max_tokens_per_expert = most};
    const ScatterAdd scatter{
        .expert_outputs = gather.gathered,
        .weights = lab.values({c.tokens, c.k}, [](size_t i) { return i % 2 ? 0.25f : 0.75f; }),
        .output = lab.output({c.tokens, c.hidden}),
        .token_offsets = gather.token_offsets};
    gpu::Work work = moe_gather(lab.caps(), gather);
    work += scatter_add(lab.caps(), scatter);
    lab.check(work);
    lab.device.submit(lab.device.record(work));
    const auto got = lab.read(scatter.output), want = lab.read(gather.hidden);
    for (size_t i = 0; i < want.size(); ++i)
      if (std::abs(got[i] - want[i]) > 1e-6)
        fail("scatter_add: element {} came back as {}, was {}", i, got[i], want[i]);
  }

  // Beyond 65,535 workgroups of 64 lanes.
  const ScatterAdd wide{
      .expert_outputs = lab.values({65'537, 64}, [](size_t i) { return float(i % 1021); }),
      .indices = lab.words({65'537, 1}, [](size_t) { return 0u; }),
      .weights = lab.values({65'537, 1}, [](size_t i) { return float(i % 7); }),
      .output = lab.output({65'537, 64})};
  lab.check(scatter_add(lab.caps(), wide, {.workgroup_size = 64}));
  lab.check(scatter_add(lab.caps(), wide));  // which chooses USE_VEC4

  const ScatterAdd good{.expert_outputs = lab.random({6, 5}),
                        .indices = lab.words({3, 2}, [](size_t i) { return uint32_t(i % 2); }),
                        .weights = lab.random({3, 2}),
                        .output = lab.output({3, 5})};
  lab.refuses("in fours", [&] { scatter_add(lab.caps(), good, {.use_vec4 = true}); });
  lab.refuses("go together", [&] { scatter_add(lab.caps(), good, {.dynamic_layout = true}); });
  const auto refuses = [&](std::string_view what, gpu::View ScatterAdd::*member, gpu::View view) {
    ScatterAdd bad = good;
    bad.*member = view;
    lab.refuses(what, [&] { scatter_add(lab.caps(), bad); });
  };
  refuses("expert_outputs are [6, 4]", &ScatterAdd::expert_outputs, lab.random({6, 4}));
  refuses("expert_outputs are [7, 5]", &ScatterAdd::expert_outputs, lab.random({7, 5}));
  refuses("indices are [3, 1]", &ScatterAdd::indices, lab.output({3, 1}, gpu::Type::u32));
  refuses("weights are [2, 2]", &ScatterAdd::weights, lab.random({2, 2}));
  refuses("token_offsets are [2, 2]", &ScatterAdd::token_offsets,
          lab.output({2, 2}, gpu::Type::u32));
}

}  // namespace ms
