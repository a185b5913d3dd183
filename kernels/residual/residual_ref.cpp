// residual_ref.cpp: the CPU twin of residual.wgsl, in double. It is the specification.
#include "kernels/residual/residual.hpp"

namespace ms {

void residual_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<AddResidual::Params>();
  const auto a = d.get<float>(0), b = d.get<float>(1), y = d.get<float>(2);
  const double scale = p.scale == 0 ? 1 : p.scale;
  for (size_t i = 0; i < p.size; ++i) {
    double sum = 0;
    for (size_t part = 0; part < p.parts; ++part) sum += b[part * p.size + i];
    y[i] = float((p.inplace == 2 ? 0 : p.inplace ? y[i] : a[i]) + scale * sum);
  }
}

}  // namespace ms
