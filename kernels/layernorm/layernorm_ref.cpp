// layernorm_ref.cpp: the CPU twin of layernorm.wgsl, in double. It is the specification.
#include <cmath>

#include "kernels/layernorm/layernorm.hpp"

namespace ms {

void layernorm_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<LayerNorm::Params>();
  const auto x = d.get<float>(0), weight = d.get<float>(1), bias = d.get<float>(2),
             residual = d.get<float>(3), y = d.get<float>(4);
  std::vector<double> v(p.cols);
  for (size_t row = 0; row < p.rows; ++row) {
    double sum = 0, squares = 0;
    for (size_t col = 0; col < p.cols; ++col) {
      const size_t i = row * p.cols + col;
      v[col] = p.has_residual ? double(x[i]) + residual[i] : x[i];
      sum += v[col];
    }
    const double mean = sum / p.cols;
    for (double value : v) squares += (value - mean) * (value - mean);
    const double scale = 1 / std::sqrt(squares / p.cols + p.eps);
    for (size_t col = 0; col < p.cols; ++col)
      y[row * p.cols + col] = float((v[col] - mean) * scale * weight[col] + bias[col]);
  }
}

}  // namespace ms
