// rope_compute_ref.cpp: the CPU twin of rope_compute.wgsl, in long double. It is the specification.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/rope_compute/rope_compute.hpp"

namespace ms {

namespace {

using Real = long double;
constexpr Real two_pi = 2 * std::numbers::pi_v<Real>;

// Two words as a number of which `bits` bits are its fraction.
Real number(uint32_t high, uint32_t low, int bits) {
  return std::ldexp(Real(uint64_t(high) << 32 | low), -bits);
}

// Radians per position.
Real frequency_of(const RopeCompute::Params& p, uint32_t pair) {
  const Real frequency = std::pow(number(p.step_high, p.step_low, 64), Real(pair));
  Real share = 0;  // of it, that is divided by the factor; NTK: all is in the step
  switch (RopeScaling::Mode(p.scaling_mode)) {
    case RopeScaling::Mode::linear:
      share = 1;
      break;
    case RopeScaling::Mode::ntk:
      break;
    case RopeScaling::Mode::yarn:
      if (pair > p.ramp_first)
        share =
            pair >= p.ramp_last ? 1 : Real(pair - p.ramp_first) / Real(p.ramp_last - p.ramp_first);
      break;
    case RopeScaling::Mode::llama3:
      share = (number(p.fast_high, p.fast_low, 64) - frequency / two_pi) *
              number(p.slope_high, p.slope_low, 32);
      share = std::clamp(share, Real(0), Real(1));
      break;
  }
  return frequency * (1 - share * number(p.loss_high, p.loss_low, 64));
}

}  // namespace

void rope_compute_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<RopeCompute::Params>();
  const auto x = d.get<float>(0);
  const size_t heads = size_t(p.num_heads) << p.fused_qk, pairs = p.rotary_dim / 2;
  for (uint32_t i = 0; i < pairs; ++i) {
    const Real frequency = frequency_of(p, i) / two_pi;
    for (uint32_t row = 0; row < p.seq_len; ++row) {
      const Real turns = frequency * (p.start_pos + row);
      const Real angle = (turns - std::floor(turns)) * two_pi;
      const double c = double(p.attention_factor * std::cos(angle)),
                   s = double(p.attention_factor * std::sin(angle));
      for (size_t head = 0; head < heads; ++head) {
        const auto v = x.subspan((row * heads + head) * p.head_dim, p.head_dim);
        float &a = v[p.interleaved ? 2 * i : i], &b = v[p.interleaved ? 2 * i + 1 : i + pairs];
        const double before = a;
        a = float(before * c - b * s);
        b = float(b * c + before * s);
      }
    }
  }
}

}  // namespace ms
