// softmax_ref.cpp: the CPU twin of softmax.wgsl, in double. It is the specification.
#include <algorithm>
#include <cmath>

#include "kernels/softmax/softmax.hpp"

namespace ms {

void softmax_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Softmax::Params>();
  const auto y = d.get<float>(1), x = p.inplace ? y : d.get<float>(0);
  std::vector<double> e(p.cols);
  for (size_t row = 0; row < p.rows; ++row) {
    const auto from = x.subspan(row * p.cols, p.cols), to = y.subspan(row * p.cols, p.cols);
    double top = -3.0e38f, sum = 0;
    for (float v : from) top = std::max(top, double(v));
    const bool masked = top == double(-3.0e38f);
    for (size_t col = 0; col < p.cols; ++col)
      sum += e[col] = masked ? 0 : std::exp((from[col] - top) / p.temperature);
    for (size_t col = 0; col < p.cols; ++col) to[col] = masked ? 0 : float(e[col] / sum);
  }
}

}  // namespace ms
