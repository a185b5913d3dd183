// attention_prefill_ref.cpp: the CPU twin of attention_prefill.wgsl, in double.
#include <algorithm>
#include <cmath>

#include "base/half.hpp"
#include "kernels/attention_prefill/attention_prefill.hpp"
#include "kernels/slot.hpp"

namespace ms {

void attention_prefill_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<AttentionPrefill::Params>();
  const auto over = d.overrides<AttentionPrefill::Overrides>();
  const auto q = d.get<float>(0), out = d.get<float>(5);
  const auto slots = d.get<Slot>(3);
  const auto block_table = d.get<uint32_t>(4);
  const uint32_t start = p.kv_len_source ? slots[p.slot].position : p.start_pos,
                 slot = p.kv_len_source ? p.slot : 0;
  const uint64_t length = p.kv_len_source ? uint64_t(start) + p.rows : p.kv_len;
  const bool ring = p.kv_layout == uint32_t(KvLayout::ring),
             paged = p.kv_layout == uint32_t(KvLayout::paged);

  const auto cache_row = [&](uint64_t position) -> size_t {
    size_t row = size_t(slot) * p.capacity + (ring ? position % p.capacity : position);
    if (paged)
      row =
          size_t(block_table[size_t(slot) * (p.capacity / p.page_size) + position / p.page_size]) *
              p.page_size +
          position % p.page_size;
    return std::min<size_t>(row, p.kv_rows - 1);
  };
  const auto halved = [](double x) {
    return f16_to_f32(f32_to_f16(std::clamp(float(x), -65504.0f, 65504.0f)));
  };
  const auto element = [&](size_t binding, uint64_t position, uint32_t head, uint32_t i) -> double {
    const double e = kv_element_ref(d, binding, kv_type(over.f16_kv, over.q8_kv), p.kv_rows,
                                    p.kv_heads, p.head_dim, cache_row(position), head, i);
    return over.matrix && over.q8_kv ? halved(e) : e;
  };
  const auto query = [&](uint32_t row, uint32_t head, uint32_t i) -> double {
    const float e = q[(size_t(row) * p.heads + head) * p.head_dim + i];
    return over.matrix ? halved(e) : e;
  };

  for (uint32_t row = 0; row < p.rows; ++row)
    for (uint32_t head = 0; head < p.heads; ++head) {
      const uint64_t position = uint64_t(start) + row;
      uint64_t first = 0, last = length;
      if (p.is_causal) last = std::min(last, position + 1);
      if (p.sliding_window)
        first = position + 1 > p.sliding_window ? position + 1 - p.sliding_window : 0;
      if (ring)
        first = std::max(first, length > p.capacity ? length - p.capacity : 0);
      else
        last = std::min<uint64_t>(last, p.capacity);
      const uint32_t kv_head = head / (p.heads / p.kv_heads);
      std::vector<double> scores;
      double peak = -1e300, total = 0;
      for (uint64_t key = first; key < last; ++key) {
        double s = 0;
        for (uint32_t i = 0; i < p.head_dim; ++i)
          s += query(row, head, i) * element(1, key, kv_head, i);
        s *= p.scale;
        if (p.attn_softcap) s = p.attn_softcap * std::tanh(s / p.attn_softcap);
        scores.push_back(s);
        peak = std::max(peak, s);
      }
      for (double& s : scores) total += s = std::exp(s - peak);
      for (uint32_t i = 0; i < p.head_dim; ++i) {
        double sum = 0;
        for (size_t j = 0; j < scores.size(); ++j)
          sum += (over.matrix ? halved(scores[j]) : scores[j]) * element(2, first + j, kv_head, i);
        out[(size_t(row) * p.heads + head) * p.head_dim + i] = float(total > 0 ? sum / total : 0);
      }
    }
}

}  // namespace ms
