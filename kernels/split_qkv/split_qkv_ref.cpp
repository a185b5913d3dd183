// split_qkv_ref.cpp: the CPU twin of split_qkv.wgsl.
#include <algorithm>
#include <cmath>

#include "base/half.hpp"
#include "kernels/slot.hpp"
#include "kernels/split_qkv/split_qkv.hpp"

namespace ms {

void split_qkv_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<SplitQkv::Params>();
  const auto over = d.overrides<SplitQkv::Overrides>();
  const auto qkv = d.get<float>(0), rope = d.get<float>(1), norms = d.get<float>(2),
             q = d.get<float>(5);
  const auto slots = d.get<Slot>(3);
  const auto block_table = d.get<uint32_t>(4);
  const uint32_t half = p.rotary_dim / 2;

  for (uint32_t row = 0; row < p.rows; ++row) {
    uint32_t slot = 0, position = p.start_pos + row;
    if (p.from_slots) {
      slot = p.prefill ? p.slot : row;
      position = slots[slot].position + (p.prefill ? row : 0);
    }
    const float* from = &qkv[size_t(row) * (p.q_size + p.k_size + p.v_size)];
    // Element i of the head of q (is_k 0) or k (1) there: normed, and turned.
    const auto turned = [&](const float* head, uint32_t i, bool is_k) -> double {
      double squares = 0;
      for (uint32_t j = 0; over.qk_norm && j < p.head_dim; ++j)
        squares += double(head[j]) * head[j];
      const double scale = 1 / std::sqrt(squares / p.head_dim + p.eps);
      const auto x = [&](uint32_t j) {
        return over.qk_norm ? head[j] * scale * norms[is_k * p.head_dim + j] : head[j];
      };
      if (!over.rope || i >= p.rotary_dim) return x(i);
      const uint32_t pair = p.interleaved ? i / 2 : i % half;
      const uint32_t a = p.interleaved ? 2 * pair : pair, b = p.interleaved ? a + 1 : pair + half;
      const size_t angle = size_t(std::min(position, p.max_seq - 1)) * half + pair;
      const double cos = rope[angle], sin = rope[size_t(p.max_seq) * half + angle];
      return i == a ? x(a) * cos - x(b) * sin : x(b) * cos + x(a) * sin;
    };
    const auto dim_of = [&](uint32_t size) { return p.head_dim ? p.head_dim : size; };
    for (uint32_t i = 0; i < p.q_size; ++i)
      q[size_t(row) * p.q_size + i] = float(
          turned(from + i / dim_of(p.q_size) * dim_of(p.q_size), i % dim_of(p.q_size), false));

    size_t to = row;
    if (p.kv_layout != uint32_t(KvLayout::plain)) {
      if (p.from_slots && !p.prefill && slots[slot].stopped != Stopped::running) continue;
      if (p.kv_layout != uint32_t(KvLayout::ring) && position >= p.capacity) continue;
      to = kv_row_ref(p, block_table, slot, position);
      if (to >= p.kv_rows) continue;
    }
    const auto write = [&](size_t binding, const float* values, uint32_t size, bool is_k) {
      const uint32_t dim = dim_of(size), padded = over.f16_out ? (dim + 1) / 2 * 2 : dim;
      for (uint32_t head = 0; head < size / dim; ++head)
        for (uint32_t i = 0; i < padded; ++i) {
          const float* start = values + head * dim;
          const double value = i >= dim ? 0 : is_k ? turned(start, i, true) : start[i];
          const size_t at = (to * (size / dim) + head) * padded + i;
          if (over.f16_out)
            d.get<uint16_t>(binding)[at] = f32_to_f16(float(std::clamp(value, -65504.0, 65504.0)));
          else
            d.get<float>(binding)[at] = float(value);
        }
    };
    write(6, from + p.q_size, p.k_size, true);
    write(7, from + p.q_size + p.k_size, p.v_size, false);
  }
}

}  // namespace ms
