// sample_argmax_test.cpp: the cases of sample_argmax.
#include "kernels/sample_argmax/sample_argmax.hpp"

#include <limits>

#include "kernels/lab.hpp"
#include "kernels/slot_test.hpp"

namespace ms {

KERNEL_TEST(sample_argmax) {
  const auto every = [&](SampleArgmax args) {
    lab.every<SampleArgmax::Overrides>(
        sample_argmax_kernel, [&](auto over) { return sample_argmax(lab.caps(), args, over); },
        exact);
  };
  constexpr float nan = std::numeric_limits<float>::quiet_NaN(),
                  inf = std::numeric_limits<float>::infinity();
  constexpr float lowest = std::numeric_limits<float>::lowest();

  // Whole numbers, so that many tie. With partials each phase is run by itself, on any partials.
  for (auto [rows, vocab] : {std::pair{1u, 1u},
                             {3u, 63u},
                             {2u, 64u},
                             {2u, 65u},
                             {3u, 255u},
                             {1u, 257u},
                             {2u, 1025u},
                             {2u, 12'289u}})
    for (float softcap : {0.0f, 30.0f}) {
      SampleArgmax args{
          .logits = lab.values({rows, vocab}, [](size_t i) { return float(i * 7919 % 97) - 100; }),
          .sampled = lab.output({rows}, gpu::Type::u32),
          .pad_token_id = vocab / 2,
          .logit_softcap = softcap};
      every(args);
      for (uint32_t parts : {1u, 5u, 65u}) {
        args.partials = lab.words({rows, parts, 2}, [&](size_t i) {
          return uint32_t(i % 2 ? i * 31 % vocab : 5 + i * 13 % 41);
        });
        every(args);
      }
    }
  for (uint32_t vocab : {49'152u, 151'936u}) {
    const SampleArgmax args{.logits = lab.random({2, vocab}, -20, 20),
                            .sampled = lab.output({2}, gpu::Type::u32)};
    every(args);
    lab.check(sample_argmax(lab.caps(), args), exact);
  }

  const SampleArgmax wide{.logits = lab.random({2, 262'144}, -20, 20),
                          .sampled = lab.output({2}, gpu::Type::u32)};
  lab.check(sample_argmax(lab.caps(), wide), exact);

  // What never wins, zeros of both signs, infinities, and rows of nothing else.
  const std::vector<std::vector<float>> rows = {
      {nan, -nan, lowest, nan},       {nan, nan, nan, nan},        {-inf, -inf, -inf, -inf},
      {lowest, lowest, -inf, lowest}, {-0.0f, 0.0f, -0.0f, -1.0f}, {-1.0f, 0.0f, -0.0f, 0.0f},
      {1.0f, inf, 1e5f, inf},         {1e5f, -1e5f, nan, 1e-45f},  {-3.0f, -2.0f, -2.0f, -1e30f}};
  for (uint32_t pad : {0u, 1u, 0xffffffffu})
    every({.logits = lab.values({rows.size(), 4}, [&](size_t i) { return rows[i / 4][i % 4]; }),
           .sampled = lab.output({rows.size()}, gpu::Type::u32),
           .best_logit = lab.output({rows.size()}),
           .pad_token_id = pad});
  every({.logits = lab.values({1, 1300}, [](size_t) { return 2.5f; }),
         .sampled = lab.output({1}, gpu::Type::u32),
         .best_logit = lab.output({1}),
         .pad_token_id = 0});
  lab.check(sample_argmax(lab.caps(), {.logits = lab.random({3, 500}, -90, 90),
                                       .sampled = lab.output({3}, gpu::Type::u32),
                                       .best_logit = lab.output({3}),
                                       .logit_softcap = 30}));

  // Slots that do not run keep their row; more rows than a dimension of the grid holds.
  std::vector<Slot> slots(70'000);
  for (size_t i = 0; i < slots.size(); ++i) slots[i].stopped = Stopped(i % 5 == 0 ? i / 5 % 4 : 0);
  for (uint32_t n : {9u, 70'000u})
    lab.check(sample_argmax(lab.caps(),
                            {.slots = lab.upload({n, 32}, gpu::Type::u32,
                                                 std::as_bytes(std::span(slots).first(n))),
                             .logits = lab.random({n, 7}),
                             .sampled = lab.output({n}, gpu::Type::u32)},
                            {.workgroup_size = 64, .single_pass = n > 9}),
              exact);

  // Steps that end: slots that are stopped, stop, or go on, with a place in the history or without.
  for (uint32_t n : {1u, 2u, 65u, 130u})
    every({.slots = lab.upload({n, 32}, gpu::Type::u32,
                               std::as_bytes(std::span<const Slot>(ending_slots(n)))),
           .logits =
               lab.values({n, 32}, [](size_t i) { return float(i % 32 == ending_token(i / 32)); }),
           .sampled = lab.output({n}, gpu::Type::u32),
           .history = lab.output({n, 8}, gpu::Type::u32)});

  const gpu::View two = lab.output({2}, gpu::Type::u32), logits = lab.random({3, 8});
  lab.refuses("sampled is [2]",
              [&] { sample_argmax(lab.caps(), {.logits = logits, .sampled = two}); });
  lab.refuses("slots is [2]", [&] {
    sample_argmax(lab.caps(), {.slots = two, .logits = lab.random({2, 8}), .sampled = two});
  });
  lab.refuses("history is [2]", [&] {
    sample_argmax(lab.caps(), {.logits = lab.random({2, 8}), .sampled = two, .history = two});
  });
  lab.refuses("history is [2, 0]", [&] {
    sample_argmax(lab.caps(), {.slots = lab.slots({0, 0}),
                               .logits = lab.random({2, 8}),
                               .sampled = two,
                               .history = lab.output({2, 0}, gpu::Type::u32)});
  });
  lab.refuses("nothing to choose", [&] {
    sample_argmax(lab.caps(), {.logits = lab.random({2, 0}), .sampled = two});
  });
  lab.refuses("without partials", [&] {
    sample_argmax(lab.caps(), {.logits = lab.random({2, 8}), .sampled = two},
                  {.is_reduce_phase = true});
  });
}

}  // namespace ms
