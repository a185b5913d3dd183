// matmul_gemv_residual_ref.cpp: the CPU twin of matmul_gemv_residual.wgsl, in double.
#include "kernels/matmul_gemv_residual/matmul_gemv_residual.hpp"

namespace ms {

void matmul_gemv_residual_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<MatmulGemvResidual::Params>();
  const auto over = d.overrides<MatmulGemvResidual::Overrides>();
  const auto residual = d.get<float>(3), y = d.get<float>(4);
  const auto quants = d.get<uint32_t>(1), scales = d.get<uint32_t>(2);
  std::vector<float> w(p.K);
  for (uint32_t m = 0; m < p.M; ++m) {
    std::vector<float> x;
    if (over.parts) {
      const uint32_t heads = p.K / over.head_dim;
      for (uint32_t h = 0; h < heads; ++h)
        for (const double e : combined_ref(d.get<uint32_t>(0), p.M * heads, over.head_dim, p.splits,
                                           over.f16_parts, m * heads + h))
          x.push_back(float(e));
    } else {
      const auto row = d.get<float>(0).subspan(size_t(m) * p.x_stride, p.K);
      x.assign(row.begin(), row.end());
    }
    const auto v = gemv_vector(x, {}, p.K, false, 0, over.int16_activations);
    for (uint32_t n = 0; n < p.N; ++n) {
      unpack_row(WeightType(over.weight_type), n, p.K, quants, scales, w, over.row_tile);
      double sum = 0;
      for (uint32_t k = 0; k < p.K; ++k) sum += w[k] * v[k];
      const size_t i = size_t(m) * p.y_stride + p.y_offset + n;
      y[i] = float(p.alpha * sum + residual[i]);
    }
  }
}

}  // namespace ms
