// residual.cpp: the wrapper of residual.wgsl.
#include "kernels/residual/residual.hpp"

namespace ms {

using gpu::in, gpu::out;

void residual_ref(const gpu::HostDispatch& d);
const gpu::Kernel residual_kernel =
    gpu::kernel<AddResidual>("residual", {in, in, out}, residual_ref);

gpu::Work residual(const gpu::Caps& caps, const AddResidual& a) {
  return residual(caps, a, {.use_vec4 = a.y.size() >= 1 << 18});  // 65,536 lanes at least
}

gpu::Work residual(const gpu::Caps&, const AddResidual& a, AddResidual::Overrides over) {
  gpu::check(residual_kernel, over);
  const uint64_t size = a.y.size();
  const auto fits = [&](const gpu::View& v) {
    return v && v.type == gpu::Type::f32 && v.size() == size;
  };
  require(fits(a.y), "residual: y is {}, wants f32", a.y);
  require(!a.a || fits(a.a), "residual: a is {}, y is {}", a.a, a.y);
  require(a.parts >= 1, "residual: b has no parts");
  require(a.b && a.b.type == gpu::Type::f32 && a.b.size() == a.parts * size,
          "residual: b is {}, y is {}, of {} parts", a.b, a.y, a.parts);
  require(!a.a || !a.sum_only, "residual: a is {}, but y is to be b's sum only", a.a);
  require(a.parts * size <= UINT32_MAX, "residual: {} elements, at most 2^32 - 1", a.parts * size);

  const uint32_t per_group = over.workgroup_size * (over.use_vec4 ? 4 : 1);
  return gpu::Dispatch{.kernel = &residual_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.a, a.b, a.y},
                       .params = gpu::bytes(AddResidual::Params{uint32_t(size), a.scale,
                                                                a.sum_only ? 2u : !a.a, a.parts}),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
