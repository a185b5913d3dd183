// attention_decode_ref.cpp: the CPU twin of attention_decode.wgsl.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/half.hpp"
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

// A query head's part of the result over the positions first to end: sums of exp(score - peak) *
// value.
struct Part {
  std::vector<double> sums;
  double peak = -1e38, total = 0;
};

Part attend(const gpu::HostDispatch& d, uint32_t query_row, uint32_t head, Keys keys) {
  const auto p = d.params<AttentionDecode::Params>();
  const bool f16 = d.overrides<AttentionDecode::Overrides>().f16_kv;
  const uint32_t kv_head = head / (p.heads / p.kv_heads),
                 padded = f16 ? (p.head_dim + 1) / 2 * 2 : p.head_dim;
  const float* q = &d.get<float>(0)[(size_t(query_row) * p.heads + head) * p.head_dim];
  const auto block_table = d.get<uint32_t>(4);
  // A key's or value's elements.
  const auto vector = [&](size_t binding, uint32_t position) {
    const size_t row =
        std::min<size_t>(kv_row_ref(p, block_table, keys.slot, position), p.kv_rows - 1);
    const size_t at = (row * p.kv_heads + kv_head) * padded;
    std::vector<double> result(p.head_dim);
    for (uint32_t i = 0; i < p.head_dim; ++i)
      result[i] =
          f16 ? f16_to_f32(d.get<uint16_t>(binding)[at + i]) : d.get<float>(binding)[at + i];
    return result;
  };

  Part part{std::vector<double>(p.head_dim)};
  std::vector<double> scores;
  for (uint32_t key = keys.first; key < keys.end; ++key) {
    const double score =
        p.scale * std::inner_product(q, q + p.head_dim, vector(1, key).begin(), 0.0);
    scores.push_back(p.attn_softcap == 0 ? score
                                         : p.attn_softcap * std::tanh(score / p.attn_softcap));
    part.peak = std::max(part.peak, scores.back());
  }
  for (uint32_t key = keys.first; key < keys.end; ++key) {
    const double weight = std::exp(scores[key - keys.first] - part.peak);
    part.total += weight;
    const auto value = vector(2, key);
    for (uint32_t i = 0; i < p.head_dim; ++i) part.sums[i] += weight * value[i];
  }
  return part;
}

size_t sums_at(const AttentionDecode::Params& p, size_t query, uint32_t split) {
  return (query * p.splits + split) * p.head_dim;
}
size_t peak_at(const AttentionDecode::Params& p, size_t query, uint32_t split) {
  return sums_at(p, size_t(p.rows) * p.heads, 0) + 2 * (query * p.splits + split);
}

}  // namespace

void attention_decode_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<AttentionDecode::Params>();
  const bool split = d.overrides<AttentionDecode::Overrides>().split;
  const auto slots = d.get<Slot>(3);
  const auto parts = d.get<float>(5), out = d.get<float>(6);
  for (uint32_t row = 0; row < p.rows; ++row) {
    const Keys keys = keys_of(p, slots, row);
    const uint32_t count = keys.end - keys.first;
    const uint32_t share =
        split ? std::max((count + p.splits - 1) / p.splits, p.split_keys) : count;
    for (uint32_t head = 0; head < p.heads; ++head) {
      const size_t query = size_t(row) * p.heads + head;
      if (!split) {
        const Part part = attend(d, row, head, keys);
        for (uint32_t i = 0; i < p.head_dim; ++i)
          out[query * p.head_dim + i] = count ? float(part.sums[i] / part.total) : 0;
      } else if (p.phase == 0) {
        for (uint32_t s = 0; s * share < count; ++s) {
          const Part part = attend(d, row, head,
                                   {keys.slot, keys.first + s * share,
                                    std::min(keys.end, keys.first + (s + 1) * share)});
          std::ranges::copy(part.sums, &out[sums_at(p, query, s)]);
          out[peak_at(p, query, s)] = float(part.peak),
                                out[peak_at(p, query, s) + 1] = float(part.total);
        }
      } else {
        double peak = -1e38, total = 0;
        std::vector<double> sums(p.head_dim);
        for (uint32_t s = 0; s * share < count; ++s)
          peak = std::max<double>(peak, parts[peak_at(p, query, s)]);
        for (uint32_t s = 0; s * share < count; ++s) {
          const double weight = std::exp(parts[peak_at(p, query, s)] - peak);
          total += weight * parts[peak_at(p, query, s) + 1];
          for (uint32_t i = 0; i < p.head_dim; ++i)
            sums[i] += weight * parts[sums_at(p, query, s) + i];
        }
        for (uint32_t i = 0; i < p.head_dim; ++i)
          out[query * p.head_dim + i] = count ? float(sums[i] / total) : 0;
      }
    }
  }
}

}  // namespace ms
