// bf16_to_f32_ref.cpp: the CPU twin of bf16_to_f32.wgsl. It is the specification.
#include "base/half.hpp"
#include "kernels/bf16_to_f32/bf16_to_f32.hpp"

namespace ms {

void bf16_to_f32_ref(const gpu::HostDispatch& d) {
  const auto x = d.get<uint16_t>(0);
  const auto y = d.get<float>(1);
  for (size_t i = 0; i < d.params<Bf16ToF32::Params>().num_elements; ++i) y[i] = bf16_to_f32(x[i]);
}

}  // namespace ms
