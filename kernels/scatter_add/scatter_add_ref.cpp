// scatter_add_ref.cpp: the CPU twin of scatter_add.wgsl, in double.
#include "kernels/scatter_add/scatter_add.hpp"

namespace ms {

void scatter_add_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<ScatterAdd::Params>();
  const auto over = d.overrides<ScatterAdd::Overrides>();
  const auto experts = d.get<float>(0), weights = d.get<float>(2), output = d.get<float>(3);
  const auto indices = d.get<uint32_t>(1), offsets = d.get<uint32_t>(4);
  for (size_t t = 0; t < p.num_tokens; ++t)
    for (size_t h = 0; h < p.hidden_size; ++h) {
      double sum = 0;
      for (size_t k = 0; k < p.top_k; ++k) {
        const size_t pair = t * p.top_k + k, row = over.dynamic_layout
                                                       ? offsets[pair]
                                                       : size_t(indices[pair]) * p.num_tokens + t;
        sum += double(weights[pair]) * experts[row * p.hidden_size + h];
      }
      float& y = output[t * p.hidden_size + h];
      y = float((p.accumulate ? y : 0.0) + sum);
    }
}

}  // namespace ms
