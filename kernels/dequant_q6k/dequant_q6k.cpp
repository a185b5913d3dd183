// dequant_q6k.cpp: the wrapper of dequant_q6k.wgsl.
#include "kernels/dequant_q6k/dequant_q6k.hpp"

#include "kernels/dequant.hpp"

namespace ms {

using gpu::in, gpu::out;

void dequant_q6k_ref(const gpu::HostDispatch& d);
const gpu::Kernel dequant_q6k_kernel =
    gpu::kernel<DequantQ6K>("dequant_q6k", {in, out}, dequant_q6k_ref);

gpu::Work dequant_q6k(const gpu::Caps& caps, const DequantQ6K& a) {
  return dequant_q6k(caps, a, {.f16_out = a.y.type == gpu::Type::f16});
}

gpu::Work dequant_q6k(const gpu::Caps&, const DequantQ6K& a, DequantQ6K::Overrides over) {
  gpu::check(dequant_q6k_kernel, over);
  check_dequant("dequant_q6k", TensorType::q6_k, a.quantized, a.y, a.num_blocks, a.output_offset,
                over.f16_out);
  const uint64_t lanes = uint64_t(a.num_blocks) * 8;
  return gpu::Dispatch{.kernel = &dequant_q6k_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.quantized, a.y},
                       .params = gpu::bytes(DequantQ6K::Params{a.num_blocks, a.output_offset}),
                       .grid = gpu::fold((lanes + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
