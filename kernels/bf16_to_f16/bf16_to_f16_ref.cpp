// bf16_to_f16_ref.cpp: the CPU twin of bf16_to_f16.wgsl. It is the specification.
#include <algorithm>

#include "base/half.hpp"
#include "kernels/bf16_to_f16/bf16_to_f16.hpp"

namespace ms {

void bf16_to_f16_ref(const gpu::HostDispatch& d) {
  const auto x = d.get<uint16_t>(0), y = d.get<uint16_t>(1);
  for (size_t i = 0; i < d.params<Bf16ToF16::Params>().num_elements; ++i)
    y[i] = f32_to_f16(std::clamp(bf16_to_f32(x[i]), -65504.0f, 65504.0f));  // a NaN passes clamp
}

}  // namespace ms
