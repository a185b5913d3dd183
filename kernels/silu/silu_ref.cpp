// silu_ref.cpp: the CPU twin of silu.wgsl, in double. It is the specification.
#include <cmath>

#include "kernels/silu/silu.hpp"

namespace ms {

void silu_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Silu::Params>();
  const auto input = d.get<float>(0), gate = d.get<float>(1), bias = d.get<float>(2),
             y = p.inplace ? d.get<float>(3) : std::span<float>();
  const bool f16_out = d.overrides<Silu::Overrides>().f16_out;
  for (size_t i = 0; i < p.size; ++i) {
    auto [x, up] = gate_operands(p, input, gate, y, i);
    if (p.has_bias) x += bias[i % p.dim];
    d.store(3, i, x / (1 + std::exp(-x)) * up, f16_out);
  }
}

}  // namespace ms
