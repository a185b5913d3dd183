// dequant_q8_0.cpp: the wrapper of dequant_q8_0.wgsl.
#include "kernels/dequant_q8_0/dequant_q8_0.hpp"

#include "kernels/dequant.hpp"

namespace ms {

using gpu::in, gpu::out;

void dequant_q8_0_ref(const gpu::HostDispatch& d);
const gpu::Kernel dequant_q8_0_kernel =
    gpu::kernel<DequantQ80>("dequant_q8_0", {in, out}, dequant_q8_0_ref);

gpu::Work dequant_q8_0(const gpu::Caps& caps, const DequantQ80& a) {
  return dequant_q8_0(caps, a, {.f16_out = a.y.type == gpu::Type::f16});
}

gpu::Work dequant_q8_0(const gpu::Caps&, const DequantQ80& a, DequantQ80::Overrides over) {
  gpu::check(dequant_q8_0_kernel, over);
  check_dequant("dequant_q8_0", TensorType::q8_0, a.quantized, a.y, a.num_blocks, a.output_offset,
                over.f16_out);
  return gpu::Dispatch{
      .kernel = &dequant_q8_0_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.quantized, a.y},
      .params = gpu::bytes(DequantQ80::Params{a.num_blocks, a.output_offset}),
      .grid = gpu::fold((uint64_t(a.num_blocks) + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
