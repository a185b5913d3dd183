// fused_ffn_ref.cpp: the CPU twin of fused_ffn.wgsl, in double.
#include <algorithm>
#include <cmath>

#include "kernels/fused_ffn/fused_ffn.hpp"

namespace ms {

double gated_ref(Activation activation, double gate, double up) {
  const double act =
      activation == Activation::silu
          ? gate / (1 + std::exp(-gate))
          : 0.5 * gate *
                (1 + std::tanh(0.7978845608028654 * (gate + 0.044715 * gate * gate * gate)));
  return act * up;
}

void fused_ffn_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<FusedFfn::Params>();
  const auto over = d.overrides<FusedFfn::Overrides>();
  const auto x = d.get<float>(0), norm = d.get<float>(3), y = d.get<float>(4);
  const auto quants = d.get<uint32_t>(1), scales = d.get<uint32_t>(2), experts = d.get<uint32_t>(5);
  const WeightType type = over.f16_weights ? WeightType::f16 : WeightType(over.weight_type);
  std::vector<float> w(p.hidden_size);
  for (uint32_t m = 0; m < p.M; ++m) {
    const auto v = gemv_vector(x.subspan(size_t(m) * p.x_stride), norm, p.hidden_size,
                               over.norm_input, p.eps, over.int16_activations);
    uint64_t first = 0;
    if (p.num_experts) {
      if (experts[m] - p.first_expert >= p.num_experts) continue;
      first = 2ull * (experts[m] - p.first_expert) * p.intermediate_size;
    }
    const auto row = [&](uint64_t n) {
      unpack_row(type, first + n, p.hidden_size, quants, scales, w, over.row_tile);
      double sum = 0;
      for (uint32_t k = 0; k < p.hidden_size; ++k) sum += w[k] * v[k];
      return sum;
    };
    for (uint32_t n = 0; n < p.intermediate_size; ++n) {
      double gate = row(2ull * n), up = row(2ull * n + 1);
      if (p.clamp_max > 0)
        gate = std::min<double>(gate, p.clamp_max),
        up = std::clamp<double>(up, -p.clamp_max, p.clamp_max);
      y[size_t(m) * p.y_stride + p.y_offset + n] =
          float(p.alpha * gated_ref(Activation(p.activation), gate, up));
    }
  }
}

}  // namespace ms
