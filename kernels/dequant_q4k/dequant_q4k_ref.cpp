// dequant_q4k_ref.cpp: the CPU twin of dequant_q4k.wgsl.
#include "kernels/dequant.hpp"
#include "kernels/dequant_q4k/dequant_q4k.hpp"

namespace ms {

void dequant_q4k_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<DequantQ4K::Params>();
  dequant_ref(d, TensorType::q4_k, p.num_blocks, p.output_offset,
              d.overrides<DequantQ4K::Overrides>().f16_out);
}

}  // namespace ms
