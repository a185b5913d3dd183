// rope_precomputed_test.cpp: the cases of rope_precomputed.
#include "kernels/rope_precomputed/rope_precomputed.hpp"

#include "kernels/lab.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

// Tables of random points: not on the unit circle, so that no two are alike.
RopePrecomputed args_of(Lab& lab, gpu::Shape x, uint32_t max_seq, uint32_t pairs) {
  return {
      .cos = lab.random({max_seq, pairs}), .sin = lab.random({max_seq, pairs}), .x = lab.random(x)};
}

gpu::View slots_at(Lab& lab, std::vector<uint32_t> positions) {
  std::vector<Slot> slots(positions.size());
  for (size_t i = 0; i < slots.size(); ++i)
    slots[i] = {.token = 9999, .position = positions[i], .limit = 9999};
  return lab.upload({slots.size(), sizeof(Slot) / 4}, gpu::Type::u32,
                    std::as_bytes(std::span(slots)));
}

}  // namespace

KERNEL_TEST(rope_precomputed) {
  const auto every = [&](const RopePrecomputed& args, Tolerance tolerance = {}) {
    lab.every<RopePrecomputed::Overrides>(
        rope_precomputed_kernel,
        [&](auto over) { return rope_precomputed(lab.caps(), args, over); }, tolerance);
  };

  // rows, heads, head_dim, pairs: whole heads and a part of them, odd head_dim, around a workgroup,
  // nothing at all.
  struct Size {
    uint32_t rows, heads, head_dim, pairs;
  };
  for (auto [rows, heads, head_dim, pairs] : {Size{1, 1, 2, 1},
                                              {1, 9, 64, 32},
                                              {3, 5, 64, 32},
                                              {2, 3, 80, 16},
                                              {3, 3, 15, 7},
                                              {1, 1, 126, 63},
                                              {1, 1, 128, 64},
                                              {1, 1, 130, 65},
                                              {4, 8, 17, 8},
                                              {1, 1, 514, 257},
                                              {2, 2, 8, 0},
                                              {0, 4, 8, 4},
                                              {2, 0, 8, 4}})
    for (bool interleaved : {false, true}) {
      RopePrecomputed args = args_of(lab, {rows, heads, head_dim}, 7, pairs);
      args.interleaved = interleaved;
      every(args);
      args.step.start_pos = 7 - rows;  // up to the tables' last row
      every(args);
    }

  // Positions from slots: a row each, or the rows after one slot's; past the tables their last row
  // counts.
  for (bool interleaved : {false, true}) {
    RopePrecomputed args = args_of(lab, {5, 3, 20}, 12, 8);
    args.interleaved = interleaved;
    args.step.slots = slots_at(lab, {4, 0, 11, 12, 0xffffffff, 7});
    every(args);
    for (uint32_t slot : {0u, 1u, 2u, 5u}) {
      args.step = {.slots = args.step.slots, .prefill = true, .slot = slot};
      every(args);
    }
  }

  // Large values cancel: what is left of them is as exact as they are.
  RopePrecomputed large = args_of(lab, {2, 2, 64}, 2, 32);
  large.x = lab.values({2, 2, 64}, [](size_t i) { return i % 5 ? 0.5f : 1e5f; });
  every(large, {.abs = 1e5 * 2e-7, .rel = 2e-5});

  // Beyond 65,535 workgroups of 64.
  lab.check(rope_precomputed(lab.caps(), args_of(lab, {262'147, 1, 32}, 262'147, 16),
                             {.workgroup_size = 64}));

  const RopePrecomputed good = args_of(lab, {3, 2, 8}, 5, 4);
  const auto bad = [&](std::string_view what, auto change) {
    RopePrecomputed args = good;
    change(args);
    lab.refuses(what, [&] { rope_precomputed(lab.caps(), args); });
  };
  bad("x is absent", [](auto& a) { a.x = {}; });
  bad("x is [6, 8] f32, wants [rows, heads, head_dim]", [](auto& a) { a.x = a.x.as({6, 8}); });
  bad("cos is [20] f32", [](auto& a) { a.cos = a.cos.as({20}); });
  bad("sin is [4, 5] f32, cos is [5, 4] f32", [](auto& a) { a.sin.shape = {4, 5}; });
  bad("exceed the heads of x, [3, 2, 7]", [](auto& a) { a.x.shape = {3, 2, 7}; });
  bad("an empty table", [](auto& a) { a.cos.shape = a.sin.shape = {0, 4}; });
  bad("3 rows from position 3 pass the tables' 5", [](auto& a) { a.step.start_pos = 3; });
  bad("slots is [32, 1] u32", [&](auto& a) { a.step.slots = slots_at(lab, {0}).as({32, 1}); });
  bad("3 rows from slot 0 of 2", [&](auto& a) { a.step.slots = slots_at(lab, {0, 0}); });
  bad("3 rows of slot 2 of 2", [&](auto& a) {
    a.step = {.slots = slots_at(lab, {0, 0}), .prefill = true, .slot = 2};
  });
}

}  // namespace ms
