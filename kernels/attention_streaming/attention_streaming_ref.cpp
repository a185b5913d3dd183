// attention_streaming_ref.cpp: the CPU twin of attention_streaming.wgsl, in double: two passes over
// the keys.
#include <algorithm>
#include <cmath>

#include "kernels/attention_streaming/attention_streaming.hpp"
#include "kernels/slot.hpp"

namespace ms {

void attention_streaming_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<AttentionStreaming::Params>();
  const bool f16 = d.overrides<AttentionStreaming::Overrides>().f16_kv;
  const auto q = d.get<float>(0), out = d.get<float>(5);
  const auto slots = d.get<Slot>(3);
  const auto block_table = d.get<uint32_t>(4);

  for (uint32_t row = 0; row < p.rows; ++row) {
    // The keys that the row sees: positions first to last, the latter excluded.
    uint32_t slot = 0;
    uint64_t position = uint64_t(p.start_pos) + row, length = p.kv_len;
    if (p.kv_len_source) {
      slot = p.prefill ? p.slot : row;
      position = uint64_t(slots[slot].position) + (p.prefill ? row : 0);
      length = uint64_t(slots[slot].position) + (p.prefill ? p.rows : 1);
    }
    uint64_t first = 0, last = length;
    if (p.is_causal) last = std::min(last, position + 1);
    if (p.sliding_window && position + 1 > p.sliding_window)
      first = position + 1 - p.sliding_window;
    if (p.kv_layout == uint32_t(KvLayout::ring))
      first = std::max<uint64_t>(first, length > p.capacity ? length - p.capacity : 0);
    else
      last = std::min<uint64_t>(last, p.capacity);
    if (p.kv_len_source && !p.prefill && slots[slot].stopped != Stopped::running) last = 0;

    for (uint32_t head = 0; head < p.heads; ++head) {
      const size_t query = (size_t(row) * p.heads + head) * p.head_dim;
      const uint32_t kv_head = head / (p.heads / p.kv_heads);
      // Element i of a key (binding 1) or value (2).
      const auto element = [&](size_t binding, uint64_t key, uint32_t i) -> double {
        const size_t cached =
            std::min<size_t>(kv_row_ref(p, block_table, slot, uint32_t(key)), p.kv_rows - 1);
        return kv_element_ref(d, binding, kv_type(f16, false), p.kv_rows, p.kv_heads, p.head_dim,
                              cached, kv_head, i);
      };
      std::vector<double> weights, sums(p.head_dim);
      double peak = -1e300, total = 0;
      for (uint64_t key = first; key < last; ++key) {
        double score = 0;
        for (uint32_t i = 0; i < p.head_dim; ++i) score += q[query + i] * element(1, key, i);
        score *= p.scale;
        if (p.attn_softcap != 0) score = p.attn_softcap * std::tanh(score / p.attn_softcap);
        weights.push_back(score);
        peak = std::max(peak, score);
      }
      for (double& weight : weights) total += weight = std::exp(weight - peak);
      for (size_t j = 0; j < weights.size(); ++j)
        for (uint32_t i = 0; i < p.head_dim; ++i) sums[i] += weights[j] * element(2, first + j, i);
      for (uint32_t i = 0; i < p.head_dim; ++i)
        out[query + i] = float(total > 0 ? sums[i] / total : 0);
    }
  }
}

}  // namespace ms
