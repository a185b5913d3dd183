// gather_ref.cpp: the CPU twin of gather.wgsl.
#include "kernels/gather/gather.hpp"

namespace ms {

void gather_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Gather::Params>();
  const auto over = d.overrides<Gather::Overrides>();
  const auto indices = d.get<uint32_t>(0), quants = d.get<uint32_t>(1), scales = d.get<uint32_t>(2);
  const auto y = d.get<float>(3);
  const WeightType type = over.f16_embeddings ? WeightType::f16 : WeightType(over.weight_type);
  const uint32_t cols = p.transpose ? p.vocab_size : p.hidden_size;
  std::vector<float> row(cols);
  for (size_t t = 0; t < p.num_tokens; ++t) {
    const uint32_t id = indices[p.index_offset + t * p.index_stride];
    const bool there = id >= p.first_id && id - p.first_id < p.num_ids;
    if (!there && (p.first_id != 0 || id < p.vocab_size)) continue;  // another table's
    for (uint32_t h = 0; h < p.hidden_size; ++h) {
      float value = 0;
      if (there) {
        if (p.transpose || h == 0)
          unpack_row(type, p.transpose ? h : id - p.first_id, cols, quants, scales, row,
                     over.row_tile);
        value = row[p.transpose ? id : h];
      }
      y[t * p.hidden_size + h] = value;
    }
  }
}

}  // namespace ms
