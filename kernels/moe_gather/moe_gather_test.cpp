// moe_gather_test.cpp: the cases of moe_gather.
#include "kernels/moe_gather/moe_gather.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(moe_gather) {
  // most: max_tokens_per_expert.
  const auto arguments = [&](uint32_t tokens, uint32_t hidden, uint32_t experts, uint32_t k,
                             uint32_t most, const std::function<uint32_t(size_t)>& expert) {
    const uint64_t rows = most ? uint64_t(experts) * most : uint64_t(tokens) * k;
    return MoeGather{.hidden = lab.values({tokens, hidden}, [](size_t i) { return float(i); }),
                     .expert_indices = lab.words({tokens, k}, expert),
                     .gathered = lab.output({rows, hidden}),
                     .token_counts = lab.output({experts}, gpu::Type::u32),
                     .token_map = lab.output({rows, 2}, gpu::Type::u32),
                     .token_offsets = lab.output({tokens, k}, gpu::Type::u32),
                     .row_experts = lab.output({rows}, gpu::Type::u32),
                     .max_tokens_per_expert = most};
  };
  const auto every = [&](const MoeGather& args) {
    const auto in_turn = [&](std::initializer_list<std::string_view> entries) {
      lab.every<MoeGather::Overrides>(
          moe_gather_kernel,
          [&](auto over) {
            gpu::Work work;
            for (const std::string_view entry : entries)
              work += moe_gather(lab.caps(), args, entry, over);
            return work;
          },
          exact);
    };
    in_turn({"count_and_map", "gather_tokens"});
    if (args.hidden.cols() % 4 == 0) in_turn({"count_and_map", "gather_tokens_vec4"});
    in_turn({"gather_single_pass"});
    lab.check(moe_gather(lab.caps(), args), exact);
  };

  struct Case {
    uint32_t tokens, hidden, experts, k;
  };
  for (Case c : {Case{0, 4, 3, 2},
                 {1, 1, 1, 1},
                 {1, 64, 8, 2},
                 {3, 5, 4, 4},
                 {31, 3, 8, 2},  // 62 pairs: just around a workgroup
                 {32, 4, 8, 2},  // 64
                 {33, 7, 8, 2},  // 66
                 {65, 8, 3, 1},  // 65
                 {37, 12, 256, 8}})
    for (bool compact : {true, false})
      // A token's experts differ, and some experts have none.
      every(arguments(
          c.tokens, c.hidden, c.experts, c.k, compact ? 0 : c.tokens + 1,
          [&](size_t i) { return uint32_t((i / c.k * i / c.k * 13 + i % c.k) % c.experts); }));
  // All tokens to one expert, which is the first, one of many, the last; the others have none.
  for (uint32_t expert : {0u, 100u, 255u})
    for (uint32_t most : {0u, 70u})
      every(arguments(70, 4, 256, 1, most, [&](size_t) { return expert; }));
  // The compact layout takes a token twice to one expert.
  every(arguments(9, 4, 3, 3, 0, [](size_t i) { return uint32_t(i % 2); }));

  // Beyond 65,535 workgroups of 64 lanes, and of an expert each.
  const MoeGather wide = arguments(65'537, 64, 2, 1, 0, [](size_t i) { return uint32_t(i % 2); });
  gpu::Work work = moe_gather(lab.caps(), wide, "count_and_map");
  work += moe_gather(lab.caps(), wide, "gather_tokens", {.workgroup_size = 64});
  lab.check(work, exact);
  const MoeGather many =
      arguments(3, 4, 65'537, 2, 0, [](size_t i) { return uint32_t(i * 13'107); });
  lab.check(moe_gather(lab.caps(), many, "gather_single_pass", {.workgroup_size = 64}), exact);

  const MoeGather good = arguments(3, 5, 4, 2, 0, [](size_t i) { return uint32_t(i % 4); });
  lab.refuses("no entry point \"main\"", [&] { moe_gather(lab.caps(), good, "main"); });
  lab.refuses("in fours", [&] { moe_gather(lab.caps(), good, "gather_tokens_vec4"); });
  lab.refuses("3 tokens may choose one expert",
              [&] { moe_gather(lab.caps(), arguments(3, 5, 4, 2, 2, [](size_t) { return 0u; })); });
  const auto refuses = [&](std::string_view what, gpu::View MoeGather::*member, gpu::View view) {
    MoeGather bad = good;
    bad.*member = view;
    lab.refuses(what, [&] { moe_gather(lab.caps(), bad); });
  };
  refuses("gathered is [5, 5]", &MoeGather::gathered, lab.output({5, 5}));
  refuses("expert_indices are [2, 2]", &MoeGather::expert_indices,
          lab.output({2, 2}, gpu::Type::u32));
  refuses("token_map is [6, 1]", &MoeGather::token_map, lab.output({6, 1}, gpu::Type::u32));
  refuses("token_offsets are [3, 1]", &MoeGather::token_offsets,
          lab.output({3, 1}, gpu::Type::u32));
  refuses("row_experts are [5]", &MoeGather::row_experts, lab.output({5}, gpu::Type::u32));
  refuses("token_counts are absent", &MoeGather::token_counts, {});
}

}  // namespace ms
