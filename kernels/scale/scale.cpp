// scale.cpp: the wrapper of scale.wgsl.
#include "kernels/scale/scale.hpp"

namespace ms {

void scale_ref(const gpu::HostDispatch& d);
const gpu::Kernel scale_kernel = gpu::kernel<Scale>("scale", {gpu::in, gpu::out}, scale_ref);

gpu::Work scale(const gpu::Caps&, const Scale& a, Scale::Overrides over) {
  gpu::check(scale_kernel, over);
  require(!a.x || a.x.size() == a.y.size(), "scale: y is {}, x is {}", a.y, a.x);
  const uint64_t size = a.y.size();
  require(size <= UINT32_MAX, "scale: {} elements, at most 2^32 - 1", size);

  const uint32_t per_group = 4 * over.workgroup_size;
  return gpu::Dispatch{.kernel = &scale_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.y},
                       .params = gpu::bytes(Scale::Params{uint32_t(size), a.scale, !a.x}),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
