// silu.cpp: the wrapper of silu.wgsl.
#include "kernels/silu/silu.hpp"

namespace ms {

using gpu::in, gpu::out;

void silu_ref(const gpu::HostDispatch& d);
const gpu::Kernel silu_kernel = gpu::kernel<Silu>("silu", {in, in, in, out}, silu_ref);

gpu::Work silu(const gpu::Caps& caps, const Silu& a) {
  const bool many = a.y.size() >= 1 << 18;  // 65,536 lanes of four
  return silu(caps, a, {.use_vec4 = many && a.y.cols() % 4 == 0});
}

gpu::Work silu(const gpu::Caps&, const Silu& a, Silu::Overrides over) {
  const bool separate = a.layout == Silu::Layout::separate;
  const uint64_t size = a.y.size(), input_size = separate ? size : 2 * size;
  const uint32_t dim = a.y.cols();
  const auto fits = [](const gpu::View& v, uint64_t n) {
    return v && v.type == gpu::Type::f32 && v.size() == n;
  };
  require(fits(a.y, size), "silu: y is {}, wants f32", a.y);
  require(separate || a.input, "silu: only the separate layout works in place");
  require(!a.input || fits(a.input, input_size), "silu: input is {}, wants {} elements for y {}",
          a.input, input_size, a.y);
  require(separate || !a.gate, "silu: gate is {}, but the layout puts the gates into input",
          a.gate);
  require(!a.gate || fits(a.gate, size), "silu: gate is {}, y is {}", a.gate, a.y);
  require(!a.bias || fits(a.bias, dim), "silu: bias is {}, y is {}", a.bias, a.y);
  require(input_size <= UINT32_MAX, "silu: {} elements, at most 2^32 - 1", input_size);

  const Silu::Params params{.size = uint32_t(size),
                            .dim = dim,
                            .has_gate = !separate || a.gate,
                            .has_bias = bool(a.bias),
                            .gate_layout = uint32_t(a.layout),
                            .inplace = !a.input};
  const uint32_t per_group = over.workgroup_size * (over.use_vec4 ? 4 : 1);
  return gpu::Dispatch{.kernel = &silu_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.input, a.gate, a.bias, a.y},
                       .params = gpu::bytes(params),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
