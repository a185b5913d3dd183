// matmul_ref.cpp: the CPU twin of matmul.wgsl, in double.
#include <algorithm>

#include "base/half.hpp"
#include "kernels/matmul/matmul.hpp"
#include "kernels/matmul_gemv/matmul_gemv.hpp"

namespace ms {

void matmul_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Matmul::Params>();
  const auto over = d.overrides<Matmul::Overrides>();
  const auto quants = d.get<uint32_t>(1), scales = d.get<uint32_t>(2);
  const WeightType type =
      over.f16_mode || over.mixed_precision ? WeightType::f16 : WeightType(over.weight_type);
  // B as [N, K].
  std::vector<float> b(size_t(p.N) * p.K);
  for (uint32_t n = 0; n < p.N; ++n) {
    if (!is_float(type) || over.row_tile > 1) {
      unpack_row(type, n, p.K, quants, scales, std::span(b).subspan(size_t(n) * p.K, p.K),
                 over.row_tile);
      continue;
    }
    for (uint32_t k = 0; k < p.K; ++k) {
      const size_t i = p.transpose_b ? size_t(n) * p.b_stride + k : size_t(k) * p.b_stride + n;
      b[size_t(n) * p.K + k] = type == WeightType::f32   ? d.get<float>(1)[i]
                               : type == WeightType::f16 ? f16_to_f32(d.get<uint16_t>(1)[i])
                                                         : bf16_to_f32(d.get<uint16_t>(1)[i]);
    }
  }
  if (over.matrix)
    for (float& w : b) w = f16_to_f32(f32_to_f16(std::clamp(w, -65504.0f, 65504.0f)));
  std::vector<float> row(p.K);
  for (uint64_t at = 0; at < uint64_t(d.dispatch().grid[2]) * p.M; ++at) {
    const uint32_t part = uint32_t(at / p.M), m = uint32_t(at % p.M);
    const uint64_t first = uint64_t(part) * p.k_part,
                   end = std::min<uint64_t>(p.K, first + p.k_part);
    for (uint32_t k = 0; k < p.K; ++k)
      row[k] = over.f16_mode || over.matrix
                   ? f16_to_f32(d.get<uint16_t>(0)[size_t(m) * p.a_stride + k])
                   : d.get<float>(0)[size_t(m) * p.a_stride + k];
    for (uint32_t n = 0; n < p.N; ++n) {
      double sum = 0;
      for (uint64_t k = first; k < end; ++k) sum += double(row[k]) * b[size_t(n) * p.K + k];
      const size_t i = at * p.c_stride + p.c_offset + n;
      d.store(3, i, p.alpha * sum, over.f16_mode);
      // A word is written whole: the odd column beyond N gets zero.
      if (over.f16_mode && n + 1 == p.N && p.N % 2) d.store(3, i + 1, 0, true);
    }
  }
}

}  // namespace ms
