// softmax.cpp: the wrapper of softmax.wgsl.
#include "kernels/softmax/softmax.hpp"

#include <algorithm>

namespace ms {

using gpu::in, gpu::out;

void softmax_ref(const gpu::HostDispatch& d);
const gpu::Kernel softmax_kernel = gpu::kernel<Softmax>("softmax", {in, out}, softmax_ref);

gpu::Work softmax(const gpu::Caps& caps, const Softmax& a) {
  const uint32_t cols = a.y.cols();
  uint32_t lanes = cols <= 64 ? 64 : 256;
  // Wide rows stay in registers where the device has the lanes for them.
  while (16 * lanes < cols && 2 * lanes <= std::min(1024u, caps.max_invocations)) lanes *= 2;
  const bool kept = cols <= 16 * lanes;
  return softmax(
      caps, a, {.workgroup_size = kept ? lanes : 256, .small_size = cols <= 256, .online = !kept});
}

gpu::Work softmax(const gpu::Caps&, const Softmax& a, Softmax::Overrides over) {
  gpu::check(softmax_kernel, over);
  const uint32_t rows = a.y.rows(), cols = a.y.cols();
  require(a.y && a.y.type == gpu::Type::f32, "softmax: y is {}, wants f32", a.y);
  require(!a.x || (a.x.type == gpu::Type::f32 && a.x.size() == a.y.size()),
          "softmax: x is {}, y is {}", a.x, a.y);
  require(a.y.size() <= UINT32_MAX, "softmax: {} elements, at most 2^32 - 1", a.y.size());
  require(a.temperature >= 1e-30f && a.temperature <= 1e30f,
          "softmax: temperature is {}, wants 1e-30 to 1e30", a.temperature);
  require(!over.small_size || cols <= over.workgroup_size,
          "softmax: SMALL_SIZE takes {} columns, y is {}", over.workgroup_size, a.y);

  return gpu::Dispatch{.kernel = &softmax_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.y},
                       .params = gpu::bytes(Softmax::Params{rows, cols, a.temperature, !a.x}),
                       .grid = gpu::fold(rows)};
}

}  // namespace ms
