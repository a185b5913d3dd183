// attention_decode_ref.cpp: the CPU twin of attention_decode.wgsl.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/attention_decode/attention_decode.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

struct Keys {
  uint32_t slot, first, end;  // positions
};

Keys keys_of(const AttentionDecode::Params& p, std::span<const Slot> slots, uint32_t row) {
  uint32_t slot = 0, length = p.kv_len + row, written = p.kv_len + p.rows - 1;
  if (p.kv_len_source) {
    slot = p.prefill ? p.slot : row;
    length = slots[slot].position + 1 + (p.prefill ? row : 0);
    written = slots[slot].position + (p.prefill ? p.rows : 1);
    if (!p.prefill && slots[slot].stopped != Stopped::running) length = 0;
  }
  uint32_t first = p.sliding_window && length > p.sliding_window ? length - p.sliding_window : 0;
  if (p.kv_layout == uint32_t(KvLayout::ring))
    first = std::max(first, written > p.capacity ? written - p.capacity : 0);
  else
    length = std::min(length, p.capacity);
  return {slot, first, std::max(length, first)};
}

// The result of a query head: values weighted by exp(score - peak), or zeros without a key.
std::vector<double> attend(const gpu::HostDispatch& d, uint32_t query_row, uint32_t head,
                           Keys keys) {
  const auto p = d.params<AttentionDecode::Params>();
  const auto over = d.overrides<AttentionDecode::Overrides>();
  const uint32_t kv_head = head / (p.heads / p.kv_heads);
  const float* q = &d.get<float>(0)[(size_t(query_row) * p.heads + head) * p.head_dim];
  const auto block_table = d.get<uint32_t>(4);
  // A key's or value's elements.
  const auto vector = [&](size_t binding, uint32_t position) {
    const size_t row =
        std::min<size_t>(kv_row_ref(p, block_table, keys.slot, position), p.kv_rows - 1);
    std::vector<double> result(p.head_dim);
    for (uint32_t i = 0; i < p.head_dim; ++i)
      result[i] = kv_element_ref(d, binding, kv_type(over.f16_kv, over.q8_kv), p.kv_rows,
                                 p.kv_heads, p.head_dim, row, kv_head, i);
    return result;
  };

  std::vector<double> scores, result(p.head_dim);
  double peak = -1e38, total = 0;
  for (uint32_t key = keys.first; key < keys.end; ++key) {
    const double score =
        p.scale * std::inner_product(q, q + p.head_dim, vector(1, key).begin(), 0.0);
    scores.push_back(p.attn_softcap == 0 ? score
                                         : p.attn_softcap * std::tanh(score / p.attn_softcap));
    peak = std::max(peak, scores.back());
  }
  for (uint32_t key = keys.first; key < keys.end; ++key) {
    const double weight = std::exp(scores[key - keys.first] - peak);
    total += weight;
    const auto value = vector(2, key);
    for (uint32_t i = 0; i < p.head_dim; ++i) result[i] += weight * value[i];
  }
  for (double& x : result) x = total > 0 ? x / total : 0;
  return result;
}

}  // namespace

void attention_decode_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<AttentionDecode::Params>();
  const auto slots = d.get<Slot>(3);
  const auto out = d.get<float>(6);  // parts are as they were
  for (uint32_t row = 0; row < p.rows; ++row) {
    const Keys keys = keys_of(p, slots, row);
    for (uint32_t head = 0; head < p.heads; ++head) {
      const std::vector<double> result = attend(d, row, head, keys);
      std::ranges::copy(result, &out[(size_t(row) * p.heads + head) * p.head_dim]);
    }
  }
}

}  // namespace ms
