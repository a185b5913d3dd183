// cast_f32_to_f16_ref.cpp: the CPU twin of cast_f32_to_f16.wgsl. It is the specification.
#include <algorithm>

#include "base/half.hpp"
#include "kernels/cast_f32_to_f16/cast_f32_to_f16.hpp"

namespace ms {

void cast_f32_to_f16_ref(const gpu::HostDispatch& d) {
  const auto x = d.get<float>(0);
  const auto y = d.get<uint16_t>(1);
  for (size_t i = 0; i < d.params<CastF32ToF16::Params>().size; ++i)
    y[i] = f32_to_f16(std::clamp(x[i], -65504.0f, 65504.0f));  // a NaN passes clamp
}

}  // namespace ms
