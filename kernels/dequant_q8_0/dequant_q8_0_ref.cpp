// dequant_q8_0_ref.cpp: the CPU twin of dequant_q8_0.wgsl.
#include "kernels/dequant.hpp"
#include "kernels/dequant_q8_0/dequant_q8_0.hpp"

namespace ms {

void dequant_q8_0_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<DequantQ80::Params>();
  dequant_ref(d, TensorType::q8_0, p.num_blocks, p.output_offset,
              d.overrides<DequantQ80::Overrides>().f16_out);
}

}  // namespace ms
