// fused_attention_ref.cpp: the CPU twin of fused_attention.wgsl.
#include <algorithm>
#include <cmath>

#include "base/half.hpp"
#include "kernels/fused_attention/fused_attention.hpp"
#include "kernels/slot.hpp"

namespace ms {

void fused_attention_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<FusedAttention::Params>();
  const auto over = d.overrides<FusedAttention::Overrides>();
  const uint32_t dim = over.head_dim, half = p.rotary_dim / 2;
  const auto qkv = d.get<float>(0), rope = d.get<float>(1);
  const auto slots = d.get<Slot>(2);
  const auto block_table = d.get<uint32_t>(3);
  const bool ring = p.kv_layout == uint32_t(KvLayout::ring);

  for (uint32_t row = 0; row < p.rows; ++row) {
    const Slot& slot = slots[row];
    const bool running = slot.stopped == Stopped::running;
    const size_t row_heads = p.heads + (over.from_qkv ? 2 * p.kv_heads : 0);
    // Element i of a head of q, k and v, counted through: rotated, but of v.
    const auto element = [&](uint32_t head, uint32_t i) -> double {
      const float* x = &qkv[(row * row_heads + head) * dim];
      if (!over.from_qkv || head >= p.heads + p.kv_heads || i >= p.rotary_dim) return x[i];
      const uint32_t pair = p.interleaved ? i / 2 : i % half;
      const uint32_t a = p.interleaved ? 2 * pair : pair, b = p.interleaved ? a + 1 : pair + half;
      const size_t angle = size_t(std::min(slot.position, p.max_seq - 1)) * half + pair;
      const double cos = rope[angle], sin = rope[size_t(p.max_seq) * half + angle];
      return i == a ? x[a] * cos - x[b] * sin : x[b] * cos + x[a] * sin;
    };
    const auto row_of = [&](uint32_t position) {
      return std::min<size_t>(kv_row_ref(p, block_table, row, position), p.kv_rows - 1);
    };
    const bool has_row = (ring || slot.position < p.capacity) &&
                         kv_row_ref(p, block_table, row, slot.position) < p.kv_rows;
    if (over.from_qkv && running && has_row)
      for (size_t binding : {4, 5})
        for (uint32_t head = 0; head < p.kv_heads; ++head)
          for (uint32_t i = 0; i < dim; ++i) {
            const double value = element(p.heads + (binding - 4) * p.kv_heads + head, i);
            const size_t to = (row_of(slot.position) * p.kv_heads + head) * dim + i;
            d.store(binding, to, value, over.f16_kv);
          }

    // Positions first to end - 1.
    uint32_t end = running ? slot.position + 1 : 0;
    uint32_t first = p.sliding_window && end > p.sliding_window ? end - p.sliding_window : 0;
    if (ring) first = std::max(first, end > p.capacity ? end - p.capacity : 0);
    if (!ring) end = std::min(end, p.capacity);
    if (over.from_qkv && !has_row) end = std::min(end, slot.position);
    const auto cached = [&](size_t binding, uint32_t position, uint32_t kv_head, uint32_t i) {
      return kv_element_ref(d, binding, kv_type(over.f16_kv, over.q8_kv), p.kv_rows, p.kv_heads,
                            dim, row_of(position), kv_head, i);
    };
    const bool halves = over.f16_kv || over.q8_kv;  // of parts
    for (uint32_t head = 0; head < p.heads; ++head) {
      const uint32_t kv_head = head / (p.heads / p.kv_heads);
      // The keys of a split, or all.
      const uint32_t count = std::max(first, end) - first, held = over.held_keys();
      const uint32_t used =
          over.split
              ? std::clamp((count + FusedAttention::split_keys - 1) / FusedAttention::split_keys,
                           1u, p.splits)
              : 1;
      for (uint32_t split = 0; split < (over.split ? p.splits : 1); ++split) {
        std::vector<double> scores, result(dim);
        std::vector<uint32_t> keys;
        for (uint32_t i = 0; i < count; ++i)
          if (i / held % used == split) keys.push_back(first + i);
        double peak = -1e38, total = 0;
        for (uint32_t key : keys) {
          double score = 0;
          for (uint32_t i = 0; i < dim; ++i)
            score += p.scale * element(head, i) * cached(4, key, kv_head, i);
          scores.push_back(
              p.attn_softcap == 0 ? score : p.attn_softcap * std::tanh(score / p.attn_softcap));
          peak = std::max(peak, scores.back());
        }
        for (size_t n = 0; n < keys.size(); ++n) {
          const double weight = std::exp(scores[n] - peak);
          total += weight;
          for (uint32_t i = 0; i < dim; ++i) result[i] += weight * cached(5, keys[n], kv_head, i);
        }
        for (double& e : result) e = total > 0 ? e / total : 0;
        const size_t query_head = size_t(row) * p.heads + head;
        if (!over.split) {
          for (uint32_t i = 0; i < dim; ++i)
            d.get<float>(7)[query_head * dim + i] = float(result[i]);
          continue;
        }
        const size_t part = query_head * p.splits + split;
        for (uint32_t i = 0; i < dim; ++i) d.store(6, part * dim + i, result[i], halves);
        const size_t ends = size_t(p.rows) * p.heads * p.splits * dim / (halves ? 2 : 1);
        d.get<float>(6)[ends + 2 * part] = float(peak);
        d.get<float>(6)[ends + 2 * part + 1] = float(total);
      }
    }
  }
}

}  // namespace ms
