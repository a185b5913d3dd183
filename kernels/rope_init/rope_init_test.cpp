// rope_init_test.cpp: the cases of rope_init, and of the frequencies that it is given.
#include "kernels/rope_init/rope_init.hpp"

#include <numbers>

#include "kernels/lab.hpp"

namespace ms {

namespace {

using Mode = RopeScaling::Mode;
constexpr long double two_pi = 2 * std::numbers::pi_v<long double>;

gpu::View upload(Lab& lab, const std::vector<uint32_t>& words) {
  return lab.words({words.size() / 2, 2}, [&](size_t i) { return words[i]; });
}

// Some pairs' frequencies, in radians, against what the published formulas give elsewhere.
void expect_frequencies(const RopeScaling& scaling, uint32_t head_dim, double base,
                        std::initializer_list<std::pair<size_t, double>> expected) {
  const auto words = rope_frequencies(scaling, head_dim, base);
  if (words.size() != head_dim)
    fail("rope_frequencies: {} words for {} dimensions", words.size(), head_dim);
  for (auto [pair, want] : expected) {
    const long double turns = std::ldexp((long double)words[2 * pair], -32) +
                              std::ldexp((long double)words[2 * pair + 1], -64);
    const double got = double(turns * two_pi);
    if (std::abs(got - want) >
        4e-19 + 1e-13 * want)  // the words' resolution, 2^-64 turns, and that of `want`
      fail("rope_frequencies: mode {}, pair {}: got {}, want {}", uint32_t(scaling.mode), pair, got,
           want);
  }
}

void check_frequencies() {
  expect_frequencies({}, 64, 1e4, {{0, 1.0}, {1, 0.7498942093324559}, {31, 0.0001333521432163324}});
  expect_frequencies({.factor = 4}, 64, 1e4, {{0, 0.25}, {31, 0.0001333521432163324 / 4}});
  expect_frequencies({.mode = Mode::ntk, .factor = 4}, 128, 1e4,
                     {{0, 1.0},
                      {1, 0.8471171851512068},
                      {32, 0.004945289840680367},
                      {63, 2.8869549617236452e-05}});
  expect_frequencies({.mode = Mode::llama3, .factor = 8, .original_context = 8192}, 128, 5e5,
                     {{0, 1.0},
                      {28, 0.003211445994752591},
                      {29, 0.002166570763503359},
                      {32, 0.0005248461609929547},
                      {34, 0.0001785078127679964},
                      {35, 9.556212353964683e-05},
                      {63, 3.068925988914511e-07}});
  expect_frequencies({.mode = Mode::yarn, .factor = 4, .original_context = 32'768}, 128, 1e6,
                     {{0, 1.0},
                      {23, 0.006978305848598663},
                      {24, 0.005375321490790102},
                      {30, 0.001064360981247002},
                      {39, 6.490394320837029e-05},
                      {40, 4.445698525097307e-05},
                      {63, 3.102344401879299e-07}});
  expect_frequencies({.mode = Mode::yarn, .factor = 40, .original_context = 4096}, 64, 1e4,
                     {{10, 0.05623413251903491},
                      {16, 0.0055},
                      {23, 3.33380358040831e-05},
                      {31, 3.3338035804083097e-06}});
  const float factors[] = {1, 4, 0.5f};  // the last pair's
  expect_frequencies({.factors = factors}, 6, 1e6, {{0, 1.0}, {1, 0.0025}, {2, 0.0002}});
  const float fast[] = {0.1f};  // 10 radians: only what exceeds a whole turn counts
  expect_frequencies({.factors = fast}, 2, 1e4, {{0, double(1 / (long double)fast[0] - two_pi)}});

  const RopeScaling yarn{.mode = Mode::yarn, .factor = 40, .original_context = 4096},
      linear{.factor = 40};
  if (std::abs(rope_attention_factor(yarn) - 1.3688879454113936) > 1e-12)
    fail("rope_attention_factor: got {}", rope_attention_factor(yarn));
  if (rope_attention_factor(linear) != 1)
    fail("rope_attention_factor: got {} without YaRN", rope_attention_factor(linear));
}

// The table, as the device fills it, against cos and sin of position * base^(-2i / d).
void check_against_mathematics(Lab& lab) {
  constexpr uint32_t head_dim = 128, rows = 8;
  const gpu::View freqs = upload(lab, rope_frequencies({}, head_dim, 1e4));
  for (uint32_t start : {0u, 4093u, 131'065u, (1u << 20) - rows}) {
    const RopeInit args{.freqs = freqs,
                        .cos = lab.output({rows, head_dim / 2}),
                        .sin = lab.output({rows, head_dim / 2}),
                        .start = start};
    lab.device.submit(lab.device.record(rope_init(lab.caps(), args)));
    const auto cos = lab.read(args.cos), sin = lab.read(args.sin);
    for (size_t i = 0; i < cos.size(); ++i) {
      const long double angle =
          (start + i / 64) * std::pow(1e4l, -2 * (long double)(i % 64) / head_dim);
      const double error =
          double(std::max(std::abs(cos[i] - std::cos(angle)), std::abs(sin[i] - std::sin(angle))));
      if (!(error <= 3e-7))
        fail("rope_init: position {}, pair {}: ({}, {}) is off by {}", start + i / 64, i % 64,
             cos[i], sin[i], error);
    }
  }
}

}  // namespace

KERNEL_TEST(rope_init) {
  check_frequencies();
  check_against_mathematics(lab);

  const auto table = [&](gpu::View freqs, uint32_t max_seq, uint32_t start = 0,
                         float attention_factor = 1) {
    const uint32_t pairs = freqs.shape[0];
    return RopeInit{.freqs = freqs,
                    .cos = lab.output({max_seq, pairs}),
                    .sin = lab.output({max_seq, pairs}),
                    .start = start,
                    .attention_factor = attention_factor};
  };
  const auto every = [&](const RopeInit& args) {
    lab.every<RopeInit::Overrides>(rope_init_kernel,
                                   [&](auto over) { return rope_init(lab.caps(), args, over); },
                                   {3e-7 * args.attention_factor, 0});
  };
  for (auto [max_seq, pairs] : {std::pair{0u, 4u},
                                {1u, 1u},
                                {1u, 64u},
                                {9u, 7u},
                                {5u, 13u},
                                {3u, 85u},
                                {4u, 64u},
                                {257u, 1u},
                                {100u, 48u}})
    for (uint32_t start : {0u, 131'000u})
      every(table(upload(lab, rope_frequencies({}, 2 * pairs, 5e5)), max_seq, start,
                  start ? 1.25f : 1));

  // Any words and positions: every quadrant and its ends, carries between the words, the last
  // position there is.
  std::vector<uint32_t> words;
  for (uint32_t high :
       {0u, 1u, 0x1fffffffu, 0x20000000u, 0x3fffffffu, 0x40000000u, 0x5fffffffu, 0x60000000u,
        0x80000000u, 0xbfffffffu, 0xc0000000u, 0xdfffffffu, 0xe0000000u, 0xffffffffu})
    for (uint32_t low : {0u, 1u, 0xffffu, 0x10000u, 0x9e3779b9u, 0xffff0000u, 0xffffffffu})
      words.insert(words.end(), {high, low});
  for (uint32_t start : {0u, 0xfff0u, (1u << 20) - 20, 0xffffffffu - 40})
    every(table(upload(lab, words), 40, start));

  // Position p times (k 2^64 / p, rounded up) passes a whole turn by next to nothing: a lost carry
  // would show.
  constexpr uint32_t p = 1'000'003;
  std::vector<uint32_t> whole;
  for (uint64_t k = 1; k < p; k += 7919) {
    const uint64_t quotient = ~0ull / p, remainder = ~0ull % p + 1;  // of 2^64
    const uint64_t frequency = k * quotient + (k * remainder + p - 1) / p;
    whole.insert(whole.end(), {uint32_t(frequency >> 32), uint32_t(frequency)});
  }
  lab.check(rope_init(lab.caps(), table(upload(lab, whole), 1, p)), {1e-9, 0});

  // Beyond 65,535 workgroups of 64.
  std::vector<uint32_t> many(2 * (64 * 65'536 + 1));
  for (size_t i = 0; i < many.size(); ++i) many[i] = uint32_t(i) * 0x9e3779b9u;
  lab.check(rope_init(lab.caps(), table(upload(lab, many), 1, 3), {.workgroup_size = 64}),
            {3e-7, 0});

  const RopeInit good = table(upload(lab, rope_frequencies({}, 8, 1e4)), 3);
  const auto bad = [&](std::string_view what, auto change) {
    RopeInit args = good;
    change(args);
    lab.refuses(what, [&] { rope_init(lab.caps(), args); });
  };
  bad("freqs is absent", [](RopeInit& a) { a.freqs = {}; });
  bad("freqs is [4, 2] f32", [](RopeInit& a) { a.freqs.type = gpu::Type::f32; });
  bad("freqs is [3, 2] u32", [](RopeInit& a) { a.freqs.shape = {3, 2}; });
  bad("cos is absent", [](RopeInit& a) { a.cos = {}; });
  bad("sin is [2, 4] f32, cos is [3, 4] f32", [](RopeInit& a) { a.sin.shape = {2, 4}; });
  bad("3 rows from position 4294967294", [](RopeInit& a) { a.start = 0xfffffffe; });

  const auto senseless = [&](std::string_view what, RopeScaling scaling, uint32_t head_dim = 8,
                             double base = 1e4) {
    lab.refuses(what, [&] { rope_frequencies(scaling, head_dim, base); });
  };
  const float factors[] = {1, 1, 0, 1};
  senseless("0 rotated dimensions", {}, 0);
  senseless("7 rotated dimensions", {}, 7);
  senseless("the base is 0", {}, 8, 0);
  senseless("the base is nan", {}, 8, NAN);
  senseless("the scaling factor is 0", {.factor = 0});
  senseless("NTK scaling is not defined for 2", {.mode = Mode::ntk}, 2);
  senseless("the original context is 0", {.mode = Mode::yarn, .factor = 2});
  senseless("the original context is 0", {.mode = Mode::llama3, .factor = 2});
  senseless("beta_fast 1 to beta_slow 1",
            {.mode = Mode::yarn, .original_context = 64, .beta_fast = 1});
  senseless("low_freq_factor 4",
            {.mode = Mode::llama3, .original_context = 64, .low_freq_factor = 4});
  senseless("4 factors for 3 pairs", {.factors = factors}, 6);
  senseless("a pair's factor is 0", {.factors = factors}, 8);
}

}  // namespace ms
