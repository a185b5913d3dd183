// rope_compute_test.cpp: the cases of rope_compute.
#include "kernels/rope_compute/rope_compute.hpp"

#include <numbers>

#include "kernels/lab.hpp"

namespace ms {

namespace {

using Mode = RopeScaling::Mode;

// Cosine and sine as the device has them, far out, against those of rope_frequencies' angles: what
// x = (1, 0) becomes. 3e-7 is what they are off by, and attention_factor multiplies that.
void check_against_mathematics(Lab& lab, const RopeScaling& scaling, uint32_t head_dim,
                               double base) {
  constexpr uint32_t rows = 4;
  const auto words = rope_frequencies(scaling, head_dim, base);
  const double factor = rope_attention_factor(scaling);
  for (uint32_t start : {0u, 4093u, 131'072u, (1u << 20) - 1, 0xffff'fff0u}) {
    const RopeCompute args{
        .x = lab.values({rows, 1, head_dim}, [](size_t i) { return i % 2 ? 0.0f : 1.0f; }),
        .base = base,
        .scaling = scaling,
        .start_pos = start};
    lab.device.submit(lab.device.record(rope_compute(lab.caps(), args)));
    const auto got = lab.read(args.x);
    for (size_t row = 0; row < rows; ++row)
      for (size_t i = 0; i < head_dim / 2; ++i) {
        const uint64_t turns = (start + row) * (uint64_t(words[2 * i]) << 32 | words[2 * i + 1]);
        const long double angle =
            2 * std::numbers::pi_v<long double> * std::ldexp((long double)turns, -64);
        const float c = got[row * head_dim + 2 * i], s = got[row * head_dim + 2 * i + 1];
        const double error = double(std::max(std::abs(c - factor * std::cos(angle)),
                                             std::abs(s - factor * std::sin(angle))));
        // Beyond 2^20, what the frequency's own roundings of some 2^-56 turns sum up to.
        if (!(error <= 3e-7 * factor + (start >> 20) * 0x1p-33))
          fail("rope_compute: mode {}, base {}, position {}, pair {}: ({}, {}) is off by {}",
               uint32_t(scaling.mode), base, start + row, i, c, s, error);
      }
  }
}

}  // namespace

KERNEL_TEST(rope_compute) {
  const RopeScaling linear{.factor = 4}, ntk{.mode = Mode::ntk, .factor = 4},
      yarn{.mode = Mode::yarn, .factor = 40, .original_context = 4096},
      llama3{.mode = Mode::llama3, .factor = 8, .original_context = 8192};
  for (double base : {1e4, 5e5, 1e6})
    for (const RopeScaling& scaling : {RopeScaling{}, linear, ntk, yarn, llama3})
      check_against_mathematics(lab, scaling, 128, base);
  check_against_mathematics(lab, {}, 2, 1e4);
  check_against_mathematics(lab, {.factor = 1.1}, 64, 1.0001);
  check_against_mathematics(lab, {.mode = Mode::ntk, .factor = 2.5}, 4, 1e4);
  check_against_mathematics(lab, {.mode = Mode::yarn, .factor = 4, .original_context = 32'768}, 256,
                            1e6);
  // A context so short that no pair makes a turn over it: all are divided, but the first.
  check_against_mathematics(lab, {.mode = Mode::yarn, .factor = 3, .original_context = 2}, 64, 1e4);
  check_against_mathematics(lab,
                            {.mode = Mode::llama3,
                             .factor = 32,
                             .original_context = 131'072.5,
                             .low_freq_factor = 1.5,
                             .high_freq_factor = 1.75},
                            64, 5e5);

  const auto every = [&](const RopeCompute& args, Tolerance tolerance = {}) {
    lab.every<RopeCompute::Overrides>(
        rope_compute_kernel, [&](auto over) { return rope_compute(lab.caps(), args, over); },
        tolerance);
  };
  // rows, heads, head_dim, rotary_dim: whole heads and a part of them, odd head_dim, around a
  // workgroup and around the heads of a lane, nothing at all.
  struct Size {
    uint32_t rows, heads, head_dim, rotary_dim;
  };
  for (auto [rows, heads, head_dim, rotary_dim] : {Size{1, 1, 2, 2},
                                                   {1, 9, 64, 64},
                                                   {3, 5, 64, 0},
                                                   {2, 3, 80, 32},
                                                   {3, 3, 15, 14},
                                                   {1, 7, 126, 126},
                                                   {1, 8, 128, 128},
                                                   {1, 17, 130, 130},
                                                   {37, 8, 17, 16},
                                                   {1, 1, 514, 514},
                                                   {0, 4, 8, 8},
                                                   {2, 0, 8, 4}})
    for (bool interleaved : {false, true})
      for (const RopeScaling& scaling : {RopeScaling{}, yarn}) {
        RopeCompute args{.x = lab.random({rows, heads, head_dim}),
                         .scaling = scaling,
                         .rotary_dim = rotary_dim,
                         .start_pos = 131'072,
                         .interleaved = interleaved};
        every(args);
        args.x = lab.random({rows, heads, 2 * head_dim});
        args.fused_qk = true;
        every(args);
      }
  for (const RopeScaling& scaling : {linear, ntk, llama3})
    every({.x = lab.random({70, 3, 64}), .base = 5e5, .scaling = scaling, .start_pos = 131'000});

  // Large values cancel: what is left of them is as exact as they are.
  every({.x = lab.values({2, 2, 64}, [](size_t i) { return i % 5 ? 0.5f : 1e5f; }),
         .start_pos = 131'072},
        {.abs = 1e5 * 4e-7, .rel = 2e-5});

  // Beyond 65,535 workgroups of 64.
  lab.check(rope_compute(lab.caps(), {.x = lab.random({65'537, 1, 128})}, {.workgroup_size = 64}));

  const RopeCompute good{.x = lab.random({3, 2, 8})};
  const auto bad = [&](std::string_view what, auto change) {
    RopeCompute args = good;
    change(args);
    lab.refuses(what, [&] { rope_compute(lab.caps(), args); });
  };
  const float factors[] = {1, 2, 3, 4};
  bad("x is absent", [](auto& a) { a.x = {}; });
  bad("x is [6, 8] f32, wants [rows, heads, head_dim]", [](auto& a) { a.x = a.x.as({6, 8}); });
  bad("7 rotated dimensions", [](auto& a) { a.rotary_dim = 7; });
  bad("10 dimensions rotate, heads have 8", [](auto& a) { a.rotary_dim = 10; });
  bad("8 dimensions rotate, heads have 4", [](auto& a) { a.rotary_dim = 8, a.fused_qk = true; });
  bad("whose heads are not Q | K", [](auto& a) { a.x.shape = {3, 2, 7}, a.fused_qk = true; });
  bad("3 rows from position 4294967294", [](auto& a) { a.start_pos = 0xfffffffe; });
  bad("the base is 1", [](auto& a) { a.base = 1; });
  bad("the scaling factor is 0.5, wants at least 1", [](auto& a) { a.scaling.factor = 0.5; });
  bad("factors of their own", [&](auto& a) { a.scaling.factors = factors; });
  bad("the original context is 0", [](auto& a) { a.scaling.mode = Mode::yarn; });
  bad("are too close", [](auto& a) {
    a.scaling = {.mode = Mode::llama3, .original_context = 1e5, .low_freq_factor = 4 - 1e-6};
  });
  bad("high_freq_factor 4 is not below the original context of 3",
      [](auto& a) { a.scaling = {.mode = Mode::llama3, .original_context = 3}; });
}

}  // namespace ms
