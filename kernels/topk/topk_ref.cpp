// topk_ref.cpp: the CPU twin of topk.wgsl, in double.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/topk/topk.hpp"

namespace ms {

void topk_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<TopK::Params>();
  const auto over = d.overrides<TopK::Overrides>();
  const auto x = d.get<float>(0), weights = d.get<float>(2);
  const auto indices = d.get<uint32_t>(1);
  std::vector<uint32_t> order(p.num_experts);
  std::vector<double> mass(p.num_experts);
  for (size_t t = 0; t < p.num_tokens; ++t) {
    const auto row = x.subspan(t * p.num_experts, p.num_experts);
    std::iota(order.begin(), order.end(), 0u);
    std::ranges::stable_sort(order, [&](uint32_t a, uint32_t b) { return row[a] > row[b]; });
    for (uint32_t e = 0; e < p.num_experts; ++e)
      mass[e] = over.fused_softmax ? std::exp(double(row[e]) - row[order[0]]) : row[e];
    double whole = 1;
    if (p.normalize) {
      whole = 0;
      for (uint32_t k = 0; k < p.top_k; ++k) whole += mass[order[k]];
    } else if (over.fused_softmax) {
      whole = std::accumulate(mass.begin(), mass.end(), 0.0);
    }
    for (uint32_t k = 0; k < p.top_k; ++k) {
      indices[t * p.top_k + k] = order[k];
      weights[t * p.top_k + k] = whole == 0 ? 0 : float(mass[order[k]] / whole);
    }
  }
}

}  // namespace ms
