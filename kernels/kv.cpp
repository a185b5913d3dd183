// kv.cpp: what every kernel that touches the KV cache requires of it.
#include "kernels/kv.hpp"

#include <bit>
#include <cmath>

#include "base/half.hpp"
#include "kernels/slot.hpp"

namespace ms {

uint32_t KvCache::positions() const {
  if (capacity) return capacity;
  return layout == KvLayout::paged ? block_table.cols() * page_size : rows();
}

KvType kv_type_by_name(std::string_view name) {
  for (const KvType type : {KvType::f16, KvType::f32, KvType::q8_0})
    if (name == to_string(type)) return type;
  throw std::invalid_argument(
      fmt::format("no KV cache of type \"{}\": use f16, f32 or q8_0", name));
}

KvType KvCache::type() const {
  return k.type == gpu::Type::f32   ? KvType::f32
         : k.type == gpu::Type::f16 ? KvType::f16
                                    : KvType::q8_0;
}

uint32_t KvCache::head_dim() const {
  const uint32_t words = k.shape[2];
  return type() == KvType::q8_0 ? words / 17 * 64 + words % 17 / 9 * 32 : words;
}

gpu::Shape kv_shape(KvType type, uint64_t rows, uint32_t kv_heads, uint32_t head_dim) {
  require(type != KvType::q8_0 || head_dim % 32 == 0,
          "a cache of q8_0 has heads of a multiple of 32 elements, not {}", head_dim);
  if (type == KvType::q8_0) return {rows, kv_heads, head_dim / 4 + (head_dim + 63) / 64};
  return {rows, kv_heads, type == KvType::f16 ? (head_dim + 1) / 2 * 2 : head_dim};
}

void check_kv(std::string_view kernel, const KvCache& cache, const StepRows& step, uint32_t rows,
              uint32_t kv_heads, uint32_t head_dim) {
  const gpu::View& k = cache.k;
  require(k.type == cache.v.type,
          "{}: k is {}, v is {}: both must be f32, both f16 or both u32, of q8_0", kernel, k,
          cache.v);
  require(cache.type() != KvType::q8_0 || head_dim % 32 == 0,
          "{}: a cache of q8_0 has heads of a multiple of 32 elements, not {}", kernel, head_dim);
  const gpu::Shape want = kv_shape(cache.type(), cache.rows(), kv_heads, head_dim);
  require(k.shape == want && cache.v.shape == want, "{}: k is {}, v is {}, want [kv_rows, {}, {}]",
          kernel, k, cache.v, kv_heads, want[2]);

  require(cache.layout != KvLayout::plain, "{}: a plain layout is no cache", kernel);
  require(!step.slots || step.slots.cols() * 4 == sizeof(Slot), "{}: slots is {}, want [slots, {}]",
          kernel, step.slots, sizeof(Slot) / 4);
  const uint32_t slots = step.slots ? step.slots.rows() : 1;
  require(step.slots ? step.prefill ? step.slot < slots : rows <= slots : step.slot == 0,
          "{}: {} rows {} slot {} of {}", kernel, rows, step.prefill ? "of" : "from", step.slot,
          slots);

  const uint64_t capacity = cache.positions();
  if (cache.layout == KvLayout::paged) {
    require(std::has_single_bit(cache.page_size) && capacity % cache.page_size == 0,
            "{}: {} positions are not whole pages of {}, a power of two", kernel, capacity,
            cache.page_size);
    require(cache.block_table.size() * cache.page_size >= slots * capacity,
            "{}: block_table is {}, want {} slots of {} blocks", kernel, cache.block_table, slots,
            capacity / cache.page_size);
  } else {
    require(slots * capacity <= cache.rows(), "{}: {} slots of {} positions exceed k, {}", kernel,
            slots, capacity, k);
  }
}

void check_attention(std::string_view kernel, const gpu::View& q, const gpu::View& out,
                     const KvCache& cache, float scale, float softcap) {
  require(q.shape.rank == 3 && cache.k.shape.rank == 3,
          "{}: q is {}, k is {}, want [rows, heads, head_dim] of both", kernel, q, cache.k);
  const uint32_t heads = q.shape[1], head_dim = q.shape[2], kv_heads = cache.k.shape[1];
  require(head_dim >= 1 && head_dim <= 256, "{}: head_dim is {}, at most 256", kernel, head_dim);
  require(kv_heads && heads % kv_heads == 0, "{}: {} heads do not share {} KV heads", kernel, heads,
          kv_heads);
  require(heads <= 65535, "{}: {} heads, at most 65535", kernel, heads);
  require(out.size() == q.size(), "{}: out is {}, q is {}", kernel, out, q);
  require(q.size() <= UINT32_MAX && cache.k.size() <= UINT32_MAX,
          "{}: q is {}, k is {}: more than 2^32 - 1 elements", kernel, q, cache.k);
  require(std::isfinite(scale), "{}: scale is {}", kernel, scale);
  require(std::isfinite(softcap) && softcap >= 0, "{}: attn_softcap is {}, 0 or more is wanted",
          kernel, softcap);
}

double kv_element_ref(const gpu::HostDispatch& d, size_t binding, KvType type, size_t kv_rows,
                      size_t kv_heads, size_t head_dim, size_t row, size_t head, size_t i) {
  const size_t at = row * kv_heads + head;
  if (type == KvType::f32) return d.get<float>(binding)[at * head_dim + i];
  const auto halves = d.get<uint16_t>(binding);
  if (type == KvType::f16) return f16_to_f32(halves[at * ((head_dim + 1) / 2 * 2) + i]);
  const size_t scales = kv_rows * kv_heads * head_dim / 2, of_head = (head_dim + 63) / 64 * 2;
  return double(d.get<int8_t>(binding)[at * head_dim + i]) *
         f16_to_f32(halves[scales + at * of_head + i / 32]);
}

RopeTables check_rope(std::string_view kernel, const gpu::View& rope, uint32_t head_dim) {
  const RopeTables tables{.max_seq = rope.rows() / 2, .rotary_dim = 2 * rope.cols()};
  require(rope.shape.rank == 3 && rope.shape[0] == 2 && tables.max_seq && tables.rotary_dim &&
              tables.rotary_dim <= head_dim,
          "{}: rope is {}, heads have {} elements", kernel, rope, head_dim);
  return tables;
}

void check_window(std::string_view kernel, const KvCache& cache, const StepRows& step,
                  uint32_t rows, uint32_t sliding_window) {
  const uint64_t of_slot = step.slots && !step.prefill ? 1 : rows;
  require(cache.layout != KvLayout::ring || !sliding_window ||
              sliding_window + of_slot <= cache.positions() + uint64_t(1),
          "{}: a ring of {} does not hold a window of {} for {} rows", kernel, cache.positions(),
          sliding_window, of_slot);
}

}  // namespace ms
