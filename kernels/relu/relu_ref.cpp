// relu_ref.cpp: the CPU twin of relu.wgsl, in double. It is the specification.
#include "kernels/relu/relu.hpp"

namespace ms {

void relu_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Relu::Params>();
  const auto x = d.get<float>(0), y = d.get<float>(1);
  for (size_t i = 0; i < p.size; ++i) {
    const double v = p.inplace ? y[i] : x[i];
    const double r = v > 0 ? v : p.leaky_alpha * v;
    y[i] = float(r);
  }
}

}  // namespace ms
