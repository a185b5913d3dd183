// rmsnorm_ref.cpp: the CPU twin of rmsnorm.wgsl, in double. It is the specification.
#include <cmath>

#include "kernels/rmsnorm/rmsnorm.hpp"

namespace ms {

void rmsnorm_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<RmsNorm::Params>();
  const auto x = d.get<float>(0), weight = d.get<float>(1), residual = d.get<float>(2);
  const auto y = d.get<float>(3), prenorm = d.get<float>(4);
  std::vector<double> v(p.cols);
  for (size_t row = 0; row < p.rows; ++row) {
    double sum = 0;
    for (size_t col = 0; col < p.cols; ++col) {
      const size_t i = row * p.cols + col;
      v[col] = p.has_residual == 2 ? double(x[i]) + residual[i] : x[i];
      sum += v[col] * v[col];
    }
    const double scale = 1 / std::sqrt(sum / p.cols + p.eps);
    for (size_t col = 0; col < p.cols; ++col) {
      const size_t i = row * p.cols + col;
      if (p.output_prenorm) prenorm[i] = float(v[col]);
      y[i] = float(v[col] * scale * weight[col] + (p.has_residual == 1 ? residual[i] : 0.0));
    }
  }
}

}  // namespace ms
