// relu.cpp: the wrapper of relu.wgsl.
#include "kernels/relu/relu.hpp"

#include <cmath>

namespace ms {

void relu_ref(const gpu::HostDispatch& d);
const gpu::Kernel relu_kernel = gpu::kernel<Relu>("relu", {gpu::in, gpu::out}, relu_ref);

gpu::Work relu(const gpu::Caps& caps, const Relu& a) {
  return relu(caps, a, {.use_vec4 = a.y.size() >= 1 << 18});  // 65,536 lanes at least
}

gpu::Work relu(const gpu::Caps&, const Relu& a, Relu::Overrides over) {
  gpu::check(relu_kernel, over);
  const uint64_t size = a.y.size();
  require(a.y && a.y.type == gpu::Type::f32, "relu: y is {}, wants f32", a.y);
  require(!a.x || (a.x.type == gpu::Type::f32 && a.x.size() == size), "relu: x is {}, y is {}", a.x,
          a.y);
  require(std::isfinite(a.leaky_alpha), "relu: leaky_alpha is {}", a.leaky_alpha);
  require(size <= UINT32_MAX, "relu: {} elements, at most 2^32 - 1", size);

  const uint32_t per_group = over.workgroup_size * (over.use_vec4 ? 4 : 1);
  return gpu::Dispatch{.kernel = &relu_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.y},
                       .params = gpu::bytes(Relu::Params{uint32_t(size), a.leaky_alpha, !a.x}),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
