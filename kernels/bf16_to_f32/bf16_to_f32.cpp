// bf16_to_f32.cpp: the wrapper of bf16_to_f32.wgsl.
#include "kernels/bf16_to_f32/bf16_to_f32.hpp"

namespace ms {

void bf16_to_f32_ref(const gpu::HostDispatch& d);
const gpu::Kernel bf16_to_f32_kernel =
    gpu::kernel<Bf16ToF32>("bf16_to_f32", {gpu::in, gpu::out}, bf16_to_f32_ref);

gpu::Work bf16_to_f32(const gpu::Caps&, const Bf16ToF32& a, Bf16ToF32::Overrides over) {
  gpu::check(bf16_to_f32_kernel, over);
  const uint64_t size = a.y.size();
  require(a.y && a.y.type == gpu::Type::f32, "bf16_to_f32: y is {}, wants f32", a.y);
  require(a.x && a.x.type == gpu::Type::u32 && a.x.size() == (size + 1) / 2,
          "bf16_to_f32: x is {}, wants [{}] u32, two elements a word, for y {}", a.x,
          (size + 1) / 2, a.y);
  require(size <= UINT32_MAX, "bf16_to_f32: {} elements, at most 2^32 - 1", size);

  const uint32_t per_group = over.workgroup_size * (over.single ? 1 : 8);
  return gpu::Dispatch{.kernel = &bf16_to_f32_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.y},
                       .params = gpu::bytes(Bf16ToF32::Params{uint32_t(size)}),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
