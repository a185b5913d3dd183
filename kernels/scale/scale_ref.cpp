// scale_ref.cpp: the CPU twin of scale.wgsl.
#include "kernels/scale/scale.hpp"

namespace ms {

void scale_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Scale::Params>();
  const auto x = d.get<float>(0), y = d.get<float>(1);
  for (size_t i = 0; i < p.size; ++i) y[i] = float(double(p.inplace ? y[i] : x[i]) * p.scale);
}

}  // namespace ms
