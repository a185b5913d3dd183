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
    // The integers and scales of q8_0.
    const auto write_q8 = [&](size_t binding, const float* values, uint32_t size, bool is_k) {
      const uint32_t dim = p.head_dim, heads = size / dim;
      const size_t scales = size_t(p.kv_rows) * size / 2, of_head = (dim + 63) / 64 * 2;
      for (uint32_t head = 0; head < heads; ++head)
        for (uint32_t block = 0; block < of_head; ++block) {
          float x[32] = {}, most = 0;
          for (uint32_t i = 0; i < 32 && 32 * block < dim; ++i) {
            const float* start = values + head * dim;
            x[i] = float(is_k ? turned(start, 32 * block + i, true) : start[32 * block + i]);
            most = std::max(most, std::abs(x[i]));
          }
          const size_t place = to * heads + head;
          const float step = most / 127, inverse = step > 0 ? 1 / step : 0;
          d.get<uint16_t>(binding)[scales + place * of_head + block] =
              f32_to_f16(std::min(step, 65504.0f));
          for (uint32_t i = 0; i < 32 && 32 * block < dim; ++i)
            d.get<int8_t>(binding)[place * dim + 32 * block + i] =
                int8_t(std::nearbyint(inverse * x[i]));
        }
    };
    const auto write = [&](size_t binding, const float* values, uint32_t size, bool is_k) {
      const uint32_t dim = dim_of(size), padded = over.f16_out ? (dim + 1) / 2 * 2 : dim;
      for (uint32_t head = 0; head < size / dim; ++head)
        for (uint32_t i = 0; i < padded; ++i) {
          const float* start = values + head * dim;
          const double value = i >= dim ? 0 : is_k ? turned(start, i, true) : start[i];
          const size_t at = (to * (size / dim) + head) * padded + i;
          d.store(binding, at, value, over.f16_out);
        }
    };
    const float *const k = from + p.q_size, *const v = k + p.k_size;
    if (over.q8_out) {
      write_q8(6, k, p.k_size, true);
      write_q8(7, v, p.v_size, false);
    } else {
      write(6, k, p.k_size, true);
      write(7, v, p.v_size, false);
    }
  }
}

}  // namespace ms
