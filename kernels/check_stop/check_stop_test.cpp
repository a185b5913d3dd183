// check_stop_test.cpp: the cases of check_stop.
#include "kernels/check_stop/check_stop.hpp"

#include "kernels/lab.hpp"
#include "kernels/slot_test.hpp"

namespace ms {

namespace {

gpu::View upload(Lab& lab, const std::vector<Slot>& slots) {
  return lab.upload({slots.size(), 32}, gpu::Type::u32, std::as_bytes(std::span(slots)));
}

}  // namespace

KERNEL_TEST(check_stop) {
  const auto every = [&](const CheckStop& args) {
    lab.every<CheckStop::Overrides>(
        check_stop_kernel, [&](auto over) { return check_stop(lab.caps(), args, over); }, exact);
  };
  for (uint32_t rows : {1u, 2u, 63u, 64u, 65u, 130u}) {
    for (auto [position, most] : {std::pair{0u, 1u}, {4u, 5u}, {5u, 5u}, {6u, 5u}})
      every({.sampled = lab.words({rows}, [](size_t i) { return uint32_t(i % 3); }),
             .should_stop = lab.output({rows}, gpu::Type::u32),
             .eos_token_id = 2,
             .max_tokens = most,
             .current_pos = position});

    CheckStop args{.sampled = lab.words({rows}, ending_token),
                   .slots = upload(lab, ending_slots(rows))};
    every(args);
    args.history = lab.output({rows, 8}, gpu::Type::u32);
    every(args);
  }
  lab.check(check_stop(lab.caps(), {.sampled = lab.words({0}, {}), .slots = upload(lab, {})}),
            exact);

  // What the header promises: a prompt of 3 with limit 5 yields 3 tokens, 5 positions filled.
  const Slot start{.token = 7, .position = 2, .limit = 5, .stopped = Stopped::running};
  const CheckStop run{.sampled = lab.words({1}, [](size_t) { return 8; }),
                      .slots = upload(lab, {start}),
                      .history = lab.output({1, 5}, gpu::Type::u32)};
  const gpu::Recording step = lab.device.record(check_stop(lab.caps(), run));
  for (uint32_t i = 0; i < 6; ++i) {
    lab.device.submit(step);
    const auto words = lab.read(run.slots);
    if (words[3] != (i < 2 ? 0 : float(Stopped::limit)) || words[1] != float(std::min(3 + i, 5u)))
      fail("check_stop: after step {} the position is {}, stopped {}", i, words[1], words[3]);
  }
  if (lab.read(run.history) !=
      std::vector<float>{float(0xdeadbeef), float(0xdeadbeef), float(0xdeadbeef), 8, 8})
    fail("check_stop: the history is not what was sampled");

  const gpu::View three = lab.output({3}, gpu::Type::u32);
  lab.refuses("should_stop is [3]",
              [&] { check_stop(lab.caps(), {.sampled = run.sampled, .should_stop = three}); });
  lab.refuses("slots is [3]",
              [&] { check_stop(lab.caps(), {.sampled = run.sampled, .slots = three}); });
  lab.refuses("either slots or", [&] { check_stop(lab.caps(), {.sampled = run.sampled}); });
  lab.refuses("history is [3]", [&] {
    check_stop(
        lab.caps(),
        {.sampled = run.sampled, .history = three, .should_stop = lab.output({1}, gpu::Type::u32)});
  });
}

}  // namespace ms
