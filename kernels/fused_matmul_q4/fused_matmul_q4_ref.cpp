// fused_matmul_q4_ref.cpp: the CPU twin of fused_matmul_q4.wgsl, in double.
#include "base/tensor_type.hpp"
#include "kernels/fused_matmul_q4/fused_matmul_q4.hpp"

namespace ms {

void fused_matmul_q4_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<FusedMatmulQ4::Params>();
  const auto a = d.get<float>(0), c = d.get<float>(2);
  const auto b = d.get<std::byte>(1);
  const size_t row_bytes = size_t(p.num_blocks_per_row) * info(TensorType::q4_k).block_bytes;
  std::vector<float> w(p.K);
  for (uint32_t n = 0; n < p.N; ++n) {
    decode(TensorType::q4_k, b.subspan(n * row_bytes, row_bytes), w);
    for (uint32_t m = 0; m < p.M; ++m) {
      double sum = 0;
      for (uint32_t k = 0; k < p.K; ++k) sum += double(a[size_t(m) * p.K + k]) * w[k];
      c[size_t(m) * p.N + n] = float(p.alpha * sum);
    }
  }
}

}  // namespace ms
