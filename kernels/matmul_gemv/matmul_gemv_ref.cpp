// matmul_gemv_ref.cpp: the CPU twin of matmul_gemv.wgsl, in double.
#include <algorithm>
#include <cmath>

#include "kernels/matmul_gemv/matmul_gemv.hpp"

namespace ms {

std::vector<double> gemv_vector(std::span<const float> x, std::span<const float> norm,
                                uint32_t cols, bool norm_input, double eps,
                                bool int16_activations) {
  std::vector<double> v(x.begin(), x.begin() + cols);
  if (norm_input) {
    double sum = 0;
    for (double e : v) sum += e * e;
    const double scale = 1 / std::sqrt(sum / cols + eps);
    for (size_t i = 0; i < cols; ++i) v[i] *= scale * norm[i];
  }
  for (size_t first = 0; int16_activations && first < cols; first += 16) {
    const auto block = std::span(v).subspan(first, std::min<size_t>(16, cols - first));
    double largest = 0;
    for (double e : block) largest = std::max(largest, std::abs(e));
    for (double& e : block)
      e = largest > 1e-30 ? std::nearbyint(e * 32512 / largest) * largest / 32512 : 0;
  }
  return v;
}

void matmul_gemv_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<MatmulGemv::Params>();
  const auto over = d.overrides<MatmulGemv::Overrides>();
  const auto x = d.get<float>(0), norm = d.get<float>(3), y = d.get<float>(4);
  const auto quants = d.get<uint32_t>(1), scales = d.get<uint32_t>(2), experts = d.get<uint32_t>(5);
  std::vector<float> w(p.K);
  for (uint32_t m = 0; m < p.M; ++m) {
    const auto v = gemv_vector(x.subspan(size_t(m) * p.x_stride), norm, p.K, over.norm_input, p.eps,
                               over.int16_activations);
    uint64_t first = 0;
    if (p.num_experts) {
      if (experts[m] - p.first_expert >= p.num_experts) continue;
      first = uint64_t(experts[m] - p.first_expert) * p.N;
    }
    for (uint32_t n = 0; n < p.N; ++n) {
      unpack_row(WeightType(over.weight_type), first + n, p.K, quants, scales, w, over.row_tile);
      double sum = 0;
      for (uint32_t k = 0; k < p.K; ++k) sum += w[k] * v[k];
      y[size_t(m) * p.y_stride + p.y_offset + n] = float(p.alpha * sum);
    }
  }
}

}  // namespace ms
