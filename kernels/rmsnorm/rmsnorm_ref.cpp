// rmsnorm_ref.cpp: the CPU twin of rmsnorm.wgsl, in double. It is the specification.
#include <algorithm>
#include <cmath>

#include "base/half.hpp"
#include "kernels/rmsnorm/rmsnorm.hpp"

namespace ms {

void rmsnorm_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<RmsNorm::Params>();
  const auto x = d.get<float>(0), weight = d.get<float>(1), residual = d.get<float>(2);
  const auto prenorm = d.get<float>(4);
  const bool f16_out = d.overrides<RmsNorm::Overrides>().f16_out;
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
      const float out =
          float(v[col] * scale * weight[col] + (p.has_residual == 1 ? residual[i] : 0.0));
      d.store(3, i, out, f16_out);
    }
  }
}

}  // namespace ms
