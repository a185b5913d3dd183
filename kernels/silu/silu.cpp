// silu.cpp: the wrapper of silu.wgsl.
#include "kernels/silu/silu.hpp"

namespace ms {

using gpu::in, gpu::out;

void silu_ref(const gpu::HostDispatch& d);
const gpu::Kernel silu_kernel = gpu::kernel<Silu>("silu", {in, in, in, out}, silu_ref);

gpu::Work silu(const gpu::Caps& caps, const Silu& a) {
  return silu(caps, a, {.use_vec4 = has_gate_fours(a.y), .f16_out = a.y.type == gpu::Type::f16});
}

gpu::Work silu(const gpu::Caps&, const Silu& a, Silu::Overrides over) {
  gpu::check(silu_kernel, over);
  check_gate("silu", a.layout, a.input, a.gate, a.y, over.f16_out);
  const uint64_t size = a.y.size();
  const uint32_t dim = a.y.cols();
  require(!a.bias || (a.bias.type == gpu::Type::f32 && a.bias.size() == dim),
          "silu: bias is {}, y is {}", a.bias, a.y);
  const Silu::Params params{.size = uint32_t(size),
                            .dim = dim,
                            .has_gate = a.layout != GateLayout::separate || a.gate,
                            .has_bias = bool(a.bias),
                            .gate_layout = uint32_t(a.layout),
                            .inplace = !a.input};
  return gpu::Dispatch{.kernel = &silu_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.input, a.gate, a.bias, a.y},
                       .params = gpu::bytes(params),
                       .grid = gate_grid(size, over.workgroup_size, over.use_vec4, over.f16_out)};
}

}  // namespace ms
