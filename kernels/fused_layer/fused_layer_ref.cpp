// fused_layer_ref.cpp: the CPU twin of fused_layer.wgsl, in double.
#include <cmath>

#include "kernels/fused_layer/fused_layer.hpp"

namespace ms {

void fused_layer_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<FusedLayer::Params>();
  const auto over = d.overrides<FusedLayer::Overrides>();
  const uint32_t epoch = d.get<uint32_t>(6)[0] + 1;
  // W v for the matrix of a number, v rounded to 16-bit integers, after a norm if there is one.
  // What travels has the epoch's lowest bit in elements 0 and 8 of each 16.
  enum { output, gate_up, down, qkv_weight };
  const auto product = [&](size_t matrix, uint32_t rows, std::span<const float> v,
                           std::span<const float> norm = {}) {
    const WeightType type =
        matrix == down && over.down_q6_k ? WeightType::q6_k : WeightType(over.weight_type);
    auto e = gemv_vector(v, norm, v.size(), !norm.empty(), p.eps, true);
    for (size_t half = 0; matrix != output && half < v.size(); half += 16) {
      double largest = 0;
      for (size_t i = half; i < half + 16; ++i) largest = std::max(largest, std::abs(double(e[i])));
      const double step = largest / 32512;
      for (size_t i = half; largest > 0 && i < half + 16; i += 8)
        e[i] = step * double((std::lround(e[i] / step) & ~1L) | (epoch & 1));
    }
    const auto [first_unit, first_scale] =
        matrix == output    ? std::pair(p.o_quants, p.o_scales)
        : matrix == gate_up ? std::pair(p.gate_up_quants, p.gate_up_scales)
        : matrix == down    ? std::pair(p.down_quants, p.down_scales)
                            : std::pair(p.w_quants, p.w_scales);
    std::vector<float> w(v.size());
    std::vector<double> result(rows);
    for (uint32_t n = 0; n < rows; ++n) {
      auto quants = d.get<uint32_t>(4), scales = d.get<uint32_t>(5);
      if (matrix == qkv_weight && over.v_q6_k && n >= p.v_first)
        unpack_row(WeightType::q6_k, n - p.v_first, v.size(), quants.subspan(4 * p.v_quants),
                   scales.subspan(p.v_scales), w);
      else
        unpack_row(type, n, v.size(), quants.subspan(4 * first_unit), scales.subspan(first_scale),
                   w);
      for (size_t k = 0; k < v.size(); ++k) result[n] += w[k] * e[k];
    }
    return result;
  };
  std::vector<float> attended;
  if (over.parts) {
    const uint32_t heads = p.heads_dim / over.head_dim;
    for (uint32_t h = 0; h < heads; ++h)
      for (const double e :
           combined_ref(d.get<uint32_t>(0), heads, over.head_dim, p.splits, over.f16_parts, h))
        attended.push_back(float(e));
  } else {
    const auto a = d.get<float>(0);
    attended.assign(a.begin(), a.begin() + p.heads_dim);
  }
  const auto x = d.get<float>(1), norm = d.get<float>(2), next_norm = d.get<float>(3),
             qkv = d.get<float>(7);
  const auto added = product(output, p.dim, attended);
  std::vector<float> h(p.dim);
  for (uint32_t i = 0; i < p.dim; ++i) h[i] = float(x[i] + p.alpha * added[i]);
  const auto both = product(gate_up, 2 * p.ffn, h, norm);
  std::vector<float> activated(p.ffn);
  for (uint32_t i = 0; i < p.ffn; ++i)
    activated[i] = float(gated_ref(Activation(p.activation), both[2 * i], both[2 * i + 1]));
  const auto fed = product(down, p.dim, activated);
  for (uint32_t i = 0; i < p.dim; ++i) x[i] = float(h[i] + p.alpha * fed[i]);
  if (p.qkv_rows == 0) return;
  const auto next = product(qkv_weight, p.qkv_rows, x.subspan(0, p.dim), next_norm);
  for (uint32_t i = 0; i < p.qkv_rows; ++i) qkv[i] = float(next[i]);
}

}  // namespace ms
