// softmax_log.cpp: the wrapper of softmax_log.wgsl.
#include "kernels/softmax_log/softmax_log.hpp"

#include <algorithm>

namespace ms {

using gpu::in, gpu::out;

void softmax_log_ref(const gpu::HostDispatch& d);
const gpu::Kernel softmax_log_kernel =
    gpu::kernel<SoftmaxLog>("softmax_log", {in, out}, softmax_log_ref);

gpu::Work softmax_log(const gpu::Caps& caps, const SoftmaxLog& a) {
  const uint32_t cols = a.y.cols();
  uint32_t lanes = cols <= 64 ? 64 : 256;
  // Wide rows stay in registers where the device has the lanes for them.
  while (16 * lanes < cols && 2 * lanes <= std::min(1024u, caps.max_invocations)) lanes *= 2;
  return softmax_log(caps, a, {.workgroup_size = cols <= 16 * lanes ? lanes : 256});
}

gpu::Work softmax_log(const gpu::Caps&, const SoftmaxLog& a, SoftmaxLog::Overrides over) {
  gpu::check(softmax_log_kernel, over);
  const uint32_t rows = a.y.rows(), cols = a.y.cols();
  require(a.y && a.y.type == gpu::Type::f32, "softmax_log: y is {}, wants f32", a.y);
  require(!a.x || (a.x.type == gpu::Type::f32 && a.x.size() == a.y.size()),
          "softmax_log: x is {}, y is {}", a.x, a.y);
  require(a.y.size() <= UINT32_MAX, "softmax_log: {} elements, at most 2^32 - 1", a.y.size());
  require(a.temperature >= 1e-30f && a.temperature <= 1e30f,
          "softmax_log: temperature is {}, wants 1e-30 to 1e30", a.temperature);

  return gpu::Dispatch{.kernel = &softmax_log_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x, a.y},
                       .params = gpu::bytes(SoftmaxLog::Params{rows, cols, a.temperature, !a.x}),
                       .grid = gpu::fold(rows)};
}

}  // namespace ms
