// layernorm.cpp: the wrapper of layernorm.wgsl.
#include "kernels/layernorm/layernorm.hpp"

#include <algorithm>
#include <cmath>

namespace ms {

using gpu::in, gpu::out;

void layernorm_ref(const gpu::HostDispatch& d);
const gpu::Kernel layernorm_kernel =
    gpu::kernel<LayerNorm>("layernorm", {in, in, in, in, out}, layernorm_ref);

gpu::Work layernorm(const gpu::Caps& caps, const LayerNorm& a) {
  // Wide rows stay in registers where the device has the lanes for them.
  uint32_t lanes = a.x.cols() <= 1024 ? 64 : 256;
  while (16 * lanes < a.x.cols() && 2 * lanes <= std::min(1024u, caps.max_invocations)) lanes *= 2;
  return layernorm(caps, a, {.workgroup_size = lanes});
}

gpu::Work layernorm(const gpu::Caps&, const LayerNorm& a, LayerNorm::Overrides over) {
  gpu::check(layernorm_kernel, over);
  const uint32_t rows = a.x.rows(), cols = a.x.cols();
  require(a.x.size() <= UINT32_MAX, "layernorm: {} elements, at most 2^32 - 1", a.x.size());
  require(a.y.size() == a.x.size(), "layernorm: y is {}, x is {}", a.y, a.x);
  require(std::isfinite(a.eps) && a.eps >= 0, "layernorm: eps is {}, 0 or more is wanted", a.eps);
  require(a.weight.size() == cols && a.bias.size() == cols,
          "layernorm: weight is {}, bias is {}, x is {}", a.weight, a.bias, a.x);
  require(!a.residual || a.residual.size() == a.x.size(), "layernorm: residual is {}, x is {}",
          a.residual, a.x);

  return gpu::Dispatch{.kernel = &layernorm_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.weight, a.bias, a.residual, a.y},
                       .params = gpu::bytes(LayerNorm::Params{rows, cols, a.eps, bool(a.residual)}),
                       .grid = gpu::fold(rows)};
}

}  // namespace ms
