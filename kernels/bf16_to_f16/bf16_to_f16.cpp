// bf16_to_f16.cpp: the wrapper of bf16_to_f16.wgsl.
#include "kernels/bf16_to_f16/bf16_to_f16.hpp"

namespace ms {

void bf16_to_f16_ref(const gpu::HostDispatch& d);
const gpu::Kernel bf16_to_f16_kernel =
    gpu::kernel<Bf16ToF16>("bf16_to_f16", {gpu::in, gpu::out}, bf16_to_f16_ref);

gpu::Work bf16_to_f16(const gpu::Caps&, const Bf16ToF16& a, Bf16ToF16::Overrides over) {
  gpu::check(bf16_to_f16_kernel, over);
  const uint64_t size = a.y.size();
  require(a.y && a.y.type == gpu::Type::f16, "bf16_to_f16: y is {}, wants f16", a.y);
  require(a.x && a.x.type == gpu::Type::u32 && a.x.size() == (size + 1) / 2,
          "bf16_to_f16: x is {}, wants [{}] u32, two elements a word, for y {}", a.x,
          (size + 1) / 2, a.y);
  require(size <= UINT32_MAX, "bf16_to_f16: {} elements, at most 2^32 - 1", size);

  const uint32_t per_group = 8 * over.workgroup_size;
  return gpu::Dispatch{.kernel = &bf16_to_f16_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.y},
                       .params = gpu::bytes(Bf16ToF16::Params{uint32_t(size)}),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
