// kv.hpp: the cache of keys and values as kernels see it, and which sequence and position each row
// has.
//
// Rows of a step, `prefill` = 0: row r belongs to slot r, at that slot's position. 1: all rows
// belong to one slot, at its position and the ones after it. Which cache row a position has:
// shared/kv.wgsl.
//
// A cache of q8_0 is of u32: 8-bit integers [kv_rows, kv_heads, head_dim], four a word, and behind
// all of them an f16 scale for each 32 of a head, two a word, the last one of an odd number with
// a half unused. An element is its integer times its scale, the block's largest magnitude / 127 (as
// in GGML's q8_0).
#pragma once
#include <span>

#include "gpu/work.hpp"

namespace ms {

enum class KvLayout : uint32_t {
  contiguous = 0,
  ring = 1,  // holds a slot's last `capacity` positions
  paged = 2,
  plain = 3,  // no cache: row r of the output is row r of the input (split_qkv only)
};

enum class KvType : uint8_t { f16, f32, q8_0 };
constexpr std::string_view to_string(KvType type) {
  return type == KvType::f16 ? "f16" : type == KvType::f32 ? "f32" : "q8_0";
}

KvType kv_type_by_name(std::string_view name);  // throws std::invalid_argument for another

struct KvCache {
  // [kv_rows, kv_heads, head_dim] f32, or f16 with head_dim rounded up to even; or u32 [kv_rows,
  // kv_heads, words of a head] of q8_0, whose head_dim is a multiple of 32: kv_shape().
  gpu::View k;
  gpu::View v;  // as k
  KvLayout layout = KvLayout::contiguous;
  uint32_t capacity =
      0;  // positions of a slot; 0: all kv_rows, or what a line of the block table names
  uint32_t page_size = 0;  // positions of a block, when paged: a power of two that divides capacity
  gpu::View block_table = {};  // [slots, capacity / page_size] u32, when paged

  uint32_t rows() const { return k.shape[0]; }
  KvType type() const;
  uint32_t head_dim() const;   // rounded up to even where it is f16
  uint32_t positions() const;  // capacity, or what it defaults to
};

// Of k, and of v. Throws std::invalid_argument for heads that q8_0 cannot have.
gpu::Shape kv_shape(KvType type, uint64_t rows, uint32_t kv_heads, uint32_t head_dim);
constexpr gpu::Type element_type(KvType type) {
  return type == KvType::f16   ? gpu::Type::f16
         : type == KvType::f32 ? gpu::Type::f32
                               : gpu::Type::u32;
}

struct StepRows {
  gpu::View slots =
      {};  // [slots, 32] u32: Slot of kernels/slot.hpp; absent: positions start_pos + r of slot 0
  bool prefill = false;
  uint32_t slot = 0;       // whose rows these are, with prefill
  uint32_t start_pos = 0;  // without slots
};

// Throws std::invalid_argument, in the name of `kernel`, unless k and v are caches of these heads
// and hold the slots that `rows` rows belong to.
void check_kv(std::string_view kernel, const KvCache& cache, const StepRows& step, uint32_t rows,
              uint32_t kv_heads, uint32_t head_dim);

// Throws std::invalid_argument, in the name of `kernel`, unless q and out are [rows, heads,
// head_dim] for a cache whose heads they share, of a head_dim and a softmax that the attention
// kernels have.
void check_attention(std::string_view kernel, const gpu::View& q, const gpu::View& out,
                     const KvCache& cache, float scale, float softcap);

// What tables of RoPE, [2, max_seq, rotary_dim / 2], hold. Throws std::invalid_argument, in the
// name of `kernel`, for others, and for more dimensions than a head has.
struct RopeTables {
  uint32_t max_seq, rotary_dim;
};
RopeTables check_rope(std::string_view kernel, const gpu::View& rope, uint32_t head_dim);

// Throws std::invalid_argument where a ring has lost keys of the window that the first of several
// rows sees: all rows of a step are written before any is read.
void check_window(std::string_view kernel, const KvCache& cache, const StepRows& step,
                  uint32_t rows, uint32_t sliding_window);

// For twins: the cache row of a position, as shared/kv.wgsl finds it. Params has kv_layout,
// kv_rows, capacity, page_size.
template <class Params>
size_t kv_row_ref(const Params& p, std::span<const uint32_t> block_table, uint32_t slot,
                  uint32_t position) {
  size_t row = size_t(slot) * p.capacity + position;
  if (p.kv_layout == uint32_t(KvLayout::ring))
    row = size_t(slot) * p.capacity + position % p.capacity;
  if (p.kv_layout == uint32_t(KvLayout::paged))
    row = size_t(block_table[slot * (p.capacity / p.page_size) + position / p.page_size]) *
              p.page_size +
          position % p.page_size;
  return row;
}

// For twins: element i of head `head` of row `row` of a binding that is k or v.
double kv_element_ref(const gpu::HostDispatch& d, size_t binding, KvType type, size_t kv_rows,
                      size_t kv_heads, size_t head_dim, size_t row, size_t head, size_t i);
// Which of F16_KV and Q8_KV is true; f32: none.
constexpr KvType kv_type(bool f16, bool q8) {
  return q8 ? KvType::q8_0 : f16 ? KvType::f16 : KvType::f32;
}

}  // namespace ms
