// rmsnorm.cpp: the wrapper of rmsnorm.wgsl. Checks, chooses, returns a value; touches no device.
#include "kernels/rmsnorm/rmsnorm.hpp"

#include <algorithm>
#include <cmath>

namespace ms {

using gpu::in, gpu::out;

void rmsnorm_ref(const gpu::HostDispatch& d);
const gpu::Kernel rmsnorm_kernel =
    gpu::kernel<RmsNorm>("rmsnorm", {in, in, in, out, out}, rmsnorm_ref);

gpu::Work rmsnorm(const gpu::Caps& caps, const RmsNorm& a) {
  RmsNorm::Overrides over;
  over.f16_out = a.y.type == gpu::Type::f16;
  over.small_size = !over.f16_out && a.x.cols() <= over.workgroup_size;
  // Wide rows stay in registers where the device has the lanes for them.
  while (16 * over.workgroup_size < a.x.cols() &&
         2 * over.workgroup_size <= std::min(1024u, caps.max_invocations))
    over.workgroup_size *= 2;
  over.cache_input = !over.small_size && a.x.cols() <= 16 * over.workgroup_size;
  if (!over.cache_input) over.workgroup_size = 256;
  return rmsnorm(caps, a, over);
}

gpu::Work rmsnorm(const gpu::Caps&, const RmsNorm& a, RmsNorm::Overrides over) {
  gpu::check(rmsnorm_kernel, over);
  const uint32_t rows = a.x.rows(), cols = a.x.cols();
  const bool wants_residual = a.has_residual != Residual::none;
  require(a.y.size() == a.x.size(), "rmsnorm: y is {}, x is {}", a.y, a.x);
  require(a.y.type == (over.f16_out ? gpu::Type::f16 : gpu::Type::f32),
          "rmsnorm: y is {}, F16_OUT {}", a.y, over.f16_out);
  require(!over.f16_out || cols % 2 == 0,
          "rmsnorm: y is {}: of f16 it has an even number of columns", a.y);
  require(std::isfinite(a.eps) && a.eps >= 0, "rmsnorm: eps is {}, 0 or more is wanted", a.eps);
  require(a.weight.size() == cols, "rmsnorm: weight is {}, x is {}", a.weight, a.x);
  require(wants_residual == bool(a.residual),
          "rmsnorm: a residual given and unused, or wanted and absent");
  require(!wants_residual || a.residual.size() == a.x.size(), "rmsnorm: residual is {}, x is {}",
          a.residual, a.x);
  require(!a.prenorm || a.prenorm.size() == a.x.size(), "rmsnorm: prenorm is {}, x is {}",
          a.prenorm, a.x);
  require(!over.small_size || cols <= over.workgroup_size,
          "rmsnorm: SMALL_SIZE takes {} columns, x is {}", over.workgroup_size, a.x);
  require(!over.cache_input || cols <= 16 * over.workgroup_size,
          "rmsnorm: CACHE_INPUT holds {} columns, x is {}", 16 * over.workgroup_size, a.x);

  return gpu::Dispatch{.kernel = &rmsnorm_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.weight, a.residual, a.y, a.prenorm},
                       .params = gpu::bytes(RmsNorm::Params{
                           rows, cols, a.eps, uint32_t(a.has_residual), bool(a.prenorm)}),
                       .grid = gpu::fold(rows)};
}

}  // namespace ms
