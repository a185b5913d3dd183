// gelu_ref.cpp: the CPU twin of gelu.wgsl, in double. It is the specification.
#include <cmath>
#include <numbers>

#include "kernels/gelu/gelu.hpp"

namespace ms {

void gelu_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Gelu::Params>();
  const auto input = d.get<float>(0), gate = d.get<float>(1),
             y = p.inplace ? d.get<float>(2) : std::span<float>();
  const bool f16_out = d.overrides<Gelu::Overrides>().f16_out;
  for (size_t i = 0; i < p.size; ++i) {
    const auto [x, up] = gate_operands(p, input, gate, y, i);
    const double u = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    d.store(2, i, x * (p.erf ? std::erfc(-x / std::numbers::sqrt2) : 1 + std::tanh(u)) / 2 * up,
            f16_out);
  }
}

}  // namespace ms
