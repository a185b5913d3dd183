// cast_f32_to_f16.cpp: the wrapper of cast_f32_to_f16.wgsl.
#include "kernels/cast_f32_to_f16/cast_f32_to_f16.hpp"

namespace ms {

void cast_f32_to_f16_ref(const gpu::HostDispatch& d);
const gpu::Kernel cast_f32_to_f16_kernel =
    gpu::kernel<CastF32ToF16>("cast_f32_to_f16", {gpu::in, gpu::out}, cast_f32_to_f16_ref);

gpu::Work cast_f32_to_f16(const gpu::Caps&, const CastF32ToF16& a, CastF32ToF16::Overrides over) {
  gpu::check(cast_f32_to_f16_kernel, over);
  const uint64_t size = a.y.size();
  require(a.y && a.y.type == gpu::Type::f16, "cast_f32_to_f16: y is {}, wants f16", a.y);
  require(a.x && a.x.type == gpu::Type::f32 && a.x.size() == size,
          "cast_f32_to_f16: x is {}, y is {}", a.x, a.y);
  require(size <= UINT32_MAX, "cast_f32_to_f16: {} elements, at most 2^32 - 1", size);

  const uint32_t per_group = 4 * over.workgroup_size;
  return gpu::Dispatch{.kernel = &cast_f32_to_f16_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.y},
                       .params = gpu::bytes(CastF32ToF16::Params{uint32_t(size)}),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
