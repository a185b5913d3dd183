// softmax_log_ref.cpp: the CPU twin of softmax_log.wgsl, in double. It is the specification.
#include <algorithm>
#include <cmath>

#include "kernels/softmax_log/softmax_log.hpp"

namespace ms {

void softmax_log_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<SoftmaxLog::Params>();
  const auto y = d.get<float>(1), x = p.inplace ? y : d.get<float>(0);
  const auto masked = [](float v) { return v <= -3.0e38f; };
  for (size_t row = 0; row < p.rows; ++row) {
    const auto from = x.subspan(row * p.cols, p.cols), to = y.subspan(row * p.cols, p.cols);
    double top = -3.0e38f, sum = 0;
    for (float v : from) top = std::max(top, double(v));
    for (float v : from)
      if (!masked(v)) sum += std::exp((v - top) / p.temperature);
    for (size_t col = 0; col < p.cols; ++col) {
      const double log_p = (from[col] - top) / p.temperature - std::log(sum);
      to[col] = masked(from[col]) ? -3.4e38f : float(std::max(log_p, -3.4e38));
    }
  }
}

}  // namespace ms
