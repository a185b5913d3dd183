// topk_test.cpp: the cases of topk.
#include "kernels/topk/topk.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(topk) {
  const auto every = [&](gpu::View x, uint32_t k) {
    for (bool normalize : {false, true}) {
      TopK args{.x = x,
                .indices = lab.output({x.rows(), k}, gpu::Type::u32),
                .weights = lab.output({x.rows(), k}),
                .normalize = normalize};
      lab.every<TopK::Overrides>(topk_kernel, [&](auto over) {
        args.softmax = over.fused_softmax;
        return topk(lab.caps(), args, over);
      });
    }
  };
  struct Case {
    uint32_t tokens, experts, k;
  };
  for (Case c : {Case{0, 8, 2},
                 {1, 1, 1},
                 {3, 2, 1},
                 {1, 2, 2},
                 {63, 7, 2},
                 {64, 8, 2},
                 {65, 8, 2},
                 {257, 3, 2},
                 {3, 9, 2},
                 {5, 63, 8},
                 {5, 64, 8},
                 {5, 65, 8},
                 {2, 128, 6},
                 {2, 255, 255},
                 {2, 256, 8},
                 {1, 256, 256}})
    every(lab.random({c.tokens, c.experts}, 0, 1), c.k);

  // Ties: all equal, all zero, a few values over and over. One outlier among equals.
  for (const auto& value : {std::function<float(size_t)>([](size_t) { return 0.25f; }),
                            {[](size_t) { return 0.0f; }},
                            {[](size_t i) { return i % 2 ? 0.0f : -0.0f; }},
                            {[](size_t i) { return float(i * 7 % 3); }},
                            {[](size_t i) { return i % 5 == 3 ? 1e5f : 1.0f; }}})
    for (Case c : {Case{3, 8, 2}, {3, 5, 2}, {3, 70, 8}, {1, 256, 100}})
      every(lab.values({c.tokens, c.experts}, value), c.k);

  // Logits far apart: neither their difference nor its exp overflows.
  for (uint32_t experts : {8u, 16u}) {
    const TopK far{
        .x = lab.values({2, experts}, [](size_t i) { return (i % 2 ? 1.0f : -1.0f) * 3e38f; }),
        .indices = lab.output({2, 2}, gpu::Type::u32),
        .weights = lab.output({2, 2}),
        .softmax = true};
    lab.check(topk(lab.caps(), far));
  }

  // Beyond 65,535 workgroups: of a token each, and of 64 tokens.
  for (bool small_k : {false, true}) {
    const uint32_t tokens = (small_k ? 64 : 1) * 65'536 + 3;
    const TopK wide{.x = lab.values({tokens, 2}, [](size_t i) { return float(i * 31 % 17); }),
                    .indices = lab.output({tokens, 2}, gpu::Type::u32),
                    .weights = lab.output({tokens, 2})};
    lab.check(topk(lab.caps(), wide, {.workgroup_size = 64, .small_k = small_k}));
  }

  const auto choose = [&](uint32_t experts, uint32_t k, TopK::Overrides over = {}) {
    topk(lab.caps(),
         {.x = lab.random({1, experts}),
          .indices = lab.output({1, k}, gpu::Type::u32),
          .weights = lab.output({1, k})},
         over);
  };
  lab.refuses("at most 256 experts", [&] { choose(257, 2); });
  lab.refuses("top_k is 9 of 8", [&] { choose(8, 9); });
  lab.refuses("SMALL_K takes 2 of at most 8", [&] { choose(9, 2, {.small_k = true}); });
  lab.refuses("SMALL_K takes 2 of at most 8", [&] { choose(8, 3, {.small_k = true}); });
  lab.refuses("FUSED_SOFTMAX", [&] { choose(8, 2, {.fused_softmax = true}); });
  lab.refuses("weights are [1, 3]", [&] {
    topk(lab.caps(), {.x = lab.random({1, 8}),
                      .indices = lab.output({1, 2}, gpu::Type::u32),
                      .weights = lab.output({1, 3})});
  });
}

}  // namespace ms
