// attention_combine_ref.cpp: the CPU twin of attention_combine.wgsl, in double.
#include <algorithm>
#include <bit>
#include <cmath>

#include "base/half.hpp"
#include "kernels/attention_combine/attention_combine.hpp"

namespace ms {

std::vector<double> combined_ref(std::span<const uint32_t> words, uint32_t query_heads,
                                 uint32_t head_dim, uint32_t splits, bool f16,
                                 uint32_t query_head) {
  const auto value = [&](size_t i) -> double {
    return f16 ? f16_to_f32(uint16_t(words[i / 2] >> (i % 2 * 16)))
               : std::bit_cast<float>(words[i]);
  };
  const size_t first = size_t(query_head) * splits;
  const size_t ends = size_t(query_heads) * splits * head_dim / (f16 ? 2 : 1) + 2 * first;
  const auto end = [&](size_t i) { return double(std::bit_cast<float>(words[ends + i])); };
  double peak = -1e38, total = 0;
  for (uint32_t s = 0; s < splits; ++s)
    if (end(2 * s + 1) > 0) peak = std::max(peak, end(2 * s));
  std::vector<double> result(head_dim);
  for (uint32_t s = 0; s < splits && end(2 * s + 1) > 0; ++s) {
    const double w = end(2 * s + 1) * std::exp(end(2 * s) - peak);
    total += w;
    for (uint32_t i = 0; i < head_dim; ++i) result[i] += w * value((first + s) * head_dim + i);
  }
  for (double& e : result) e = total > 0 ? e / total : 0;
  return result;
}

void attention_combine_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<AttentionCombine::Params>();
  const auto over = d.overrides<AttentionCombine::Overrides>();
  for (uint32_t head = 0; head < p.query_heads; ++head) {
    const auto sum = combined_ref(d.get<uint32_t>(0), p.query_heads, over.head_dim, p.splits,
                                  over.f16_parts, head);
    for (size_t i = 0; i < over.head_dim; ++i)
      d.store(1, size_t(head) * over.head_dim + i, sum[i], over.f16_out);
  }
}

}  // namespace ms
