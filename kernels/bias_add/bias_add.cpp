// bias_add.cpp: the wrapper of bias_add.wgsl.
#include "kernels/bias_add/bias_add.hpp"

namespace ms {

void bias_add_ref(const gpu::HostDispatch& d);
const gpu::Kernel bias_add_kernel =
    gpu::kernel<BiasAdd>("bias_add", {gpu::in, gpu::out}, bias_add_ref);

gpu::Work bias_add(const gpu::Caps&, const BiasAdd& a, BiasAdd::Overrides over) {
  gpu::check(bias_add_kernel, over);
  const uint64_t size = a.data.size();
  const uint32_t dim = a.data.cols();
  require(a.data && a.data.type == gpu::Type::f32, "bias_add: data is {}, wants f32", a.data);
  require(a.bias && a.bias.type == gpu::Type::f32 && a.bias.size() == dim,
          "bias_add: bias is {}, data is {}", a.bias, a.data);
  require(size <= UINT32_MAX, "bias_add: {} elements, at most 2^32 - 1", size);

  const uint32_t per_group = 4 * over.workgroup_size;
  return gpu::Dispatch{.kernel = &bias_add_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.bias, a.data},
                       .params = gpu::bytes(BiasAdd::Params{a.data.rows(), dim}),
                       .grid = gpu::fold((size + per_group - 1) / per_group)};
}

}  // namespace ms
