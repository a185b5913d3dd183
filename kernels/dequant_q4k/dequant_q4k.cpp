// dequant_q4k.cpp: the wrapper of dequant_q4k.wgsl.
#include "kernels/dequant_q4k/dequant_q4k.hpp"

#include "kernels/dequant.hpp"

namespace ms {

using gpu::in, gpu::out;

void dequant_q4k_ref(const gpu::HostDispatch& d);
const gpu::Kernel dequant_q4k_kernel =
    gpu::kernel<DequantQ4K>("dequant_q4k", {in, out}, dequant_q4k_ref);

gpu::Work dequant_q4k(const gpu::Caps& caps, const DequantQ4K& a) {
  return dequant_q4k(caps, a, {.use_vec4 = true, .f16_out = a.y.type == gpu::Type::f16});
}

gpu::Work dequant_q4k(const gpu::Caps& caps, const DequantQ4K& a, DequantQ4K::Overrides over) {
  gpu::check(dequant_q4k_kernel, over);
  check_dequant("dequant_q4k", TensorType::q4_k, a.quantized, a.y, a.num_blocks, a.output_offset,
                over.f16_out);
  require(!over.use_subgroups || caps.variant.subgroups,
          "dequant_q4k: USE_SUBGROUPS on {}, which has none", caps.name);
  const uint64_t runs = uint64_t(a.num_blocks) * 8;
  return gpu::Dispatch{.kernel = &dequant_q4k_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.quantized, a.y},
                       .params = gpu::bytes(DequantQ4K::Params{a.num_blocks, a.output_offset}),
                       .grid = gpu::fold((runs + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
