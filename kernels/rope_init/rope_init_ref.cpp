// rope_init_ref.cpp: the CPU twin of rope_init.wgsl, in long double. It is the specification.
#include <cmath>
#include <numbers>

#include "kernels/rope_init/rope_init.hpp"

namespace ms {

void rope_init_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<RopeInit::Params>();
  const auto freqs = d.get<uint32_t>(0);
  const auto cos = d.get<float>(1), sin = d.get<float>(2);
  for (size_t row = 0; row < p.max_seq; ++row)
    for (size_t pair = 0; pair < p.pairs; ++pair) {
      const uint64_t frequency = uint64_t(freqs[2 * pair]) << 32 | freqs[2 * pair + 1];
      const uint64_t turns = (p.start + row) * frequency;  // wraps: whole turns do not count
      const long double angle =
          2 * std::numbers::pi_v<long double> * std::ldexp((long double)turns, -64);
      cos[row * p.pairs + pair] = float(p.attention_factor * std::cos(angle));
      sin[row * p.pairs + pair] = float(p.attention_factor * std::sin(angle));
    }
}

}  // namespace ms
