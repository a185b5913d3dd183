// gelu.cpp: the wrapper of gelu.wgsl.
#include "kernels/gelu/gelu.hpp"

namespace ms {

using gpu::in, gpu::out;

void gelu_ref(const gpu::HostDispatch& d);
const gpu::Kernel gelu_kernel = gpu::kernel<Gelu>("gelu", {in, in, out}, gelu_ref);

gpu::Work gelu(const gpu::Caps& caps, const Gelu& a) {
  return gelu(caps, a, {.use_vec4 = has_gate_fours(a.y), .f16_out = a.y.type == gpu::Type::f16});
}

gpu::Work gelu(const gpu::Caps&, const Gelu& a, Gelu::Overrides over) {
  gpu::check(gelu_kernel, over);
  check_gate("gelu", a.layout, a.input, a.gate, a.y, over.f16_out);
  const uint64_t size = a.y.size();
  const Gelu::Params params{.size = uint32_t(size),
                            .dim = a.y.cols(),
                            .has_gate = a.layout != GateLayout::separate || a.gate,
                            .gate_layout = uint32_t(a.layout),
                            .inplace = !a.input,
                            .erf = a.erf};
  return gpu::Dispatch{.kernel = &gelu_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.input, a.gate, a.y},
                       .params = gpu::bytes(params),
                       .grid = gate_grid(size, over.workgroup_size, over.use_vec4, over.f16_out)};
}

}  // namespace ms
