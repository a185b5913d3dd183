// dequant_q6k_ref.cpp: the CPU twin of dequant_q6k.wgsl.
#include "kernels/dequant.hpp"
#include "kernels/dequant_q6k/dequant_q6k.hpp"

namespace ms {

void dequant_q6k_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<DequantQ6K::Params>();
  dequant_ref(d, TensorType::q6_k, p.num_blocks, p.output_offset,
              d.overrides<DequantQ6K::Overrides>().f16_out);
}

}  // namespace ms
