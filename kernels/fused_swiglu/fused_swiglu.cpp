// fused_swiglu.cpp: the wrapper of fused_swiglu.wgsl.
#include "kernels/fused_swiglu/fused_swiglu.hpp"

#include <cmath>

namespace ms {

using gpu::in, gpu::out;

void fused_swiglu_ref(const gpu::HostDispatch& d);
const gpu::Kernel fused_swiglu_kernel =
    gpu::kernel<FusedSwiglu>("fused_swiglu", {in, in, out}, fused_swiglu_ref);

gpu::Work fused_swiglu(const gpu::Caps&, const FusedSwiglu& a, FusedSwiglu::Overrides over) {
  gpu::check(fused_swiglu_kernel, over);
  const auto f32 = [](const gpu::View& v) { return v && v.type == gpu::Type::f32; };
  const uint64_t size = a.y.size();
  const uint32_t rows = a.y.rows(), dim = a.y.cols();
  require(f32(a.y), "fused_swiglu: y is {}, wants f32", a.y);
  require(f32(a.input) && a.input.size() == 2 * size,
          "fused_swiglu: input is {}, wants {} elements for y {}", a.input, 2 * size, a.y);
  require(f32(a.bias) && a.bias.size() >= a.bias_offset + 2 * uint64_t(dim),
          "fused_swiglu: bias is {}, {} elements from {} are wanted", a.bias, 2 * uint64_t(dim),
          a.bias_offset);
  require(a.clamp_max >= 0 && std::isfinite(a.clamp_max),
          "fused_swiglu: clamp_max is {}, wants 0 or more", a.clamp_max);
  require(2 * size <= UINT32_MAX && a.bias.size() <= UINT32_MAX,
          "fused_swiglu: input is {}, bias is {}: at most 2^32 - 1 elements", a.input, a.bias);

  const uint32_t per_group = 4 * over.workgroup_size;
  return gpu::Dispatch{
      .kernel = &fused_swiglu_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.input, a.bias, a.y},
      .params = gpu::bytes(FusedSwiglu::Params{rows, dim, a.bias_offset, a.clamp_max}),
      .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
