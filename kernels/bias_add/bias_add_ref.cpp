// bias_add_ref.cpp: the CPU twin of bias_add.wgsl, in double. It is the specification.
#include "kernels/bias_add/bias_add.hpp"

namespace ms {

void bias_add_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<BiasAdd::Params>();
  const auto bias = d.get<float>(0), data = d.get<float>(1);
  for (size_t row = 0; row < p.num_tokens; ++row)
    for (size_t col = 0; col < p.dim; ++col) {
      float& value = data[row * p.dim + col];
      value = float(double(value) + bias[col]);
    }
}

}  // namespace ms
