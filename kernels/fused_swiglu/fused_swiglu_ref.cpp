// fused_swiglu_ref.cpp: the CPU twin of fused_swiglu.wgsl, in double. It is the specification.
#include <algorithm>
#include <cmath>

#include "kernels/fused_swiglu/fused_swiglu.hpp"

namespace ms {

void fused_swiglu_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<FusedSwiglu::Params>();
  const auto input = d.get<float>(0), bias = d.get<float>(1).subspan(p.bias_offset),
             y = d.get<float>(2);
  for (size_t row = 0; row < p.num_tokens; ++row)
    for (size_t col = 0; col < p.dim; ++col) {
      const auto biased = [&](size_t c) { return double(input[row * 2 * p.dim + c]) + bias[c]; };
      double g = biased(col), u = biased(p.dim + col);
      if (p.clamp_max) {
        g = std::min(g, double(p.clamp_max));
        u = std::clamp(u, -double(p.clamp_max), double(p.clamp_max));
      }
      y[row * p.dim + col] = float(g / (1 + std::exp(-g)) * u);
    }
}

}  // namespace ms
