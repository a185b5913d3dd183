// fused_matmul_rmsnorm_ref.cpp: the CPU twin of fused_matmul_rmsnorm.wgsl, in double.
#include <cmath>

#include "kernels/fused_matmul_rmsnorm/fused_matmul_rmsnorm.hpp"

namespace ms {

void fused_matmul_rmsnorm_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<FusedMatmulRmsNorm::Params>();
  const auto over = d.overrides<FusedMatmulRmsNorm::Overrides>();
  const auto x = d.get<float>(0), weight = d.get<float>(1), norm_weight = d.get<float>(2),
             residual = d.get<float>(3), y = d.get<float>(4);
  std::vector<double> product(p.N);
  for (size_t row = 0; row < p.rows; ++row) {
    double squares = 0;
    for (size_t n = 0; n < p.N; ++n) {
      product[n] = 0;
      for (size_t k = 0; k < p.K; ++k)
        product[n] += double(x[row * p.K + k]) * weight[p.transpose_b ? n * p.K + k : k * p.N + n];
      squares += product[n] * product[n];
    }
    const double scale = 1 / std::sqrt(squares / p.N + p.eps);
    for (size_t n = 0; n < p.N; ++n) {
      const size_t i = row * p.N + n;
      y[i] = float(over.phase1_only ? product[n]
                                    : product[n] * scale * norm_weight[n] +
                                          (p.has_residual ? residual[i] : 0.0));
    }
  }
}

}  // namespace ms
