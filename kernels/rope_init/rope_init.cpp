// rope_init.cpp: the wrapper of rope_init.wgsl, and the frequencies on the host.
#include "kernels/rope_init/rope_init.hpp"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ms {

using gpu::in, gpu::out;

void rope_init_ref(const gpu::HostDispatch& d);
const gpu::Kernel rope_init_kernel =
    gpu::kernel<RopeInit>("rope_init", {in, out, out}, rope_init_ref);

namespace {

using Real = long double;
constexpr Real two_pi = 2 * std::numbers::pi_v<Real>;

// 0 at `high` and beyond, 1 at `low` and beyond, linear between.
Real ramp(Real at, Real high, Real low) {
  return std::clamp((at - high) / (low - high), Real(0), Real(1));
}

Real yarn_share(const RopeScaling& s, uint32_t i, uint32_t head_dim, double base) {
  const auto [first, last] = rope_yarn_ramp(s, head_dim, base);
  return ramp(i, first, std::max(Real(last), first + Real(0.001)));
}

// How much of pair i is divided by the factor; the rest keeps its frequency.
Real divided_share(const RopeScaling& s, uint32_t i, Real frequency, uint32_t head_dim,
                   double base) {
  switch (s.mode) {
    case RopeScaling::Mode::linear:
      return 1;
    case RopeScaling::Mode::yarn:
      return yarn_share(s, i, head_dim, base);
    case RopeScaling::Mode::llama3:
      return ramp(s.original_context * frequency / two_pi, s.high_freq_factor, s.low_freq_factor);
    default:
      return 0;  // ntk: all is in the base
  }
}

}  // namespace

void check_rope_scaling(const RopeScaling& s, uint32_t head_dim, double base) {
  using Mode = RopeScaling::Mode;
  const bool long_context = s.mode == Mode::yarn || s.mode == Mode::llama3;
  require(head_dim >= 2 && head_dim % 2 == 0, "rope: {} rotated dimensions are not pairs",
          head_dim);
  require(base > 1 && std::isfinite(base), "rope: the base is {}, wants more than 1", base);
  require(s.factor > 0 && std::isfinite(s.factor),
          "rope: the scaling factor is {}, wants more than 0", s.factor);
  require(s.mode != Mode::ntk || head_dim > 2,
          "rope: NTK scaling is not defined for {} rotated dimensions", head_dim);
  require(!long_context || (s.original_context >= 1 && std::isfinite(s.original_context)),
          "rope: the original context is {}, wants at least 1", s.original_context);
  require(s.mode != Mode::yarn || (s.beta_slow > 0 && s.beta_fast > s.beta_slow),
          "rope: YaRN from beta_fast {} to beta_slow {}", s.beta_fast, s.beta_slow);
  require(
      s.mode != Mode::llama3 || (s.low_freq_factor > 0 && s.high_freq_factor > s.low_freq_factor),
      "rope: Llama 3 scaling from low_freq_factor {} to high_freq_factor {}", s.low_freq_factor,
      s.high_freq_factor);
  require(s.factors.empty() || s.factors.size() == head_dim / 2, "rope: {} factors for {} pairs",
          s.factors.size(), head_dim / 2);
  for (float factor : s.factors)
    require(factor > 0 && std::isfinite(factor), "rope: a pair's factor is {}, wants more than 0",
            factor);
}

std::vector<uint32_t> rope_frequencies(const RopeScaling& s, uint32_t head_dim, double base) {
  check_rope_scaling(s, head_dim, base);
  Real stretched = base;
  if (s.mode == RopeScaling::Mode::ntk)
    stretched *= std::pow(Real(s.factor), Real(head_dim) / (head_dim - 2));

  std::vector<uint32_t> words;
  for (uint32_t i = 0; i < head_dim / 2; ++i) {
    const Real frequency = std::pow(stretched, -2 * Real(i) / head_dim);  // radians per position
    const Real share = divided_share(s, i, frequency, head_dim, base);
    const Real scaled =
        frequency * (share / s.factor + 1 - share) / (s.factors.empty() ? 1 : s.factors[i]);
    const Real turns = scaled / two_pi;
    const auto fraction = uint64_t(std::ldexp(turns - std::floor(turns), 64));
    words.push_back(uint32_t(fraction >> 32));
    words.push_back(uint32_t(fraction));
  }
  return words;
}

std::pair<uint32_t, uint32_t> rope_yarn_ramp(const RopeScaling& s, uint32_t head_dim, double base) {
  // The pair, as a real number, that makes so many turns over the original context.
  const auto pair_of = [&](double turns) {
    return head_dim * std::log(s.original_context / (turns * two_pi)) / (2 * std::log(Real(base)));
  };
  const Real most = head_dim - 1;
  return {uint32_t(std::clamp(std::floor(pair_of(s.beta_fast)), Real(0), most)),
          uint32_t(std::clamp(std::ceil(pair_of(s.beta_slow)), Real(0), most))};
}

double rope_attention_factor(const RopeScaling& s) {
  return s.mode == RopeScaling::Mode::yarn && s.factor > 1 ? 0.1 * std::log(s.factor) + 1 : 1;
}

gpu::Work rope_init(const gpu::Caps&, const RopeInit& a, RopeInit::Overrides over) {
  gpu::check(rope_init_kernel, over);
  const uint32_t max_seq = a.cos.rows(), pairs = a.cos.cols();
  const uint64_t size = a.cos.size();
  require(a.cos && a.cos.type == gpu::Type::f32, "rope_init: cos is {}, wants f32", a.cos);
  require(a.sin && a.sin.type == gpu::Type::f32 && a.sin.shape == a.cos.shape,
          "rope_init: sin is {}, cos is {}", a.sin, a.cos);
  require(a.freqs && a.freqs.type == gpu::Type::u32 && a.freqs.size() == 2 * uint64_t(pairs),
          "rope_init: freqs is {}, wants two words u32 a pair of cos, {}", a.freqs, a.cos);
  require(size <= UINT32_MAX, "rope_init: {} elements, at most 2^32 - 1", size);
  require(uint64_t(a.start) + max_seq <= UINT32_MAX,
          "rope_init: {} rows from position {} pass 2^32 - 1", max_seq, a.start);

  const uint64_t lanes = (uint64_t(max_seq) + 3) / 4 * pairs;
  return gpu::Dispatch{
      .kernel = &rope_init_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.freqs, a.cos, a.sin},
      .params = gpu::bytes(RopeInit::Params{max_seq, pairs, a.start, a.attention_factor}),
      .grid = gpu::fold((lanes + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
