// attention_decode.cpp: the wrapper of attention_decode.wgsl.
#include "kernels/attention_decode/attention_decode.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"

namespace ms {

using gpu::in, gpu::out;

void attention_decode_ref(const gpu::HostDispatch& d);
const gpu::Kernel attention_decode_kernel = gpu::kernel<AttentionDecode>(
    "attention_decode", {in, in, in, in, in, out, out}, attention_decode_ref);

namespace {

constexpr uint32_t split_keys = 128;     // the fewest that are worth a workgroup
constexpr uint32_t split_groups = 1024;  // workgroups that fill a large device
constexpr uint32_t most_splits = 128;    // that the last one has room for

uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

// Query heads of a KV head, in as few and as equal teams as `most` heads a team allow.
uint32_t teams_of(uint32_t ratio, uint32_t most) { return ceil_div(ratio, most); }

// Lanes that lie side by side over a head's values, eight elements each.
uint32_t value_lanes(uint32_t head_dim) { return ceil_div(head_dim, 8); }

bool is_vec4(uint32_t head_dim, KvType type) {
  return type != KvType::q8_0 && head_dim % (type == KvType::f16 ? 8 : 4) == 0;
}

}  // namespace

uint64_t attention_part_words(uint64_t rows, uint32_t heads, uint32_t head_dim, uint32_t splits) {
  return rows * heads * (uint64_t(splits) * (head_dim + 2) + 1);
}

void check_attention_parts(std::string_view kernel, const gpu::View& parts, uint64_t rows,
                           uint32_t heads, uint32_t head_dim, uint32_t splits) {
  require(splits <= most_splits, "{}: {} splits, at most {}", kernel, splits, most_splits);
  const uint64_t words = attention_part_words(rows, heads, head_dim, splits);
  require(parts.type == gpu::Type::u32 && parts.size() >= words,
          "{}: SPLIT puts {} words into parts, which are {}", kernel, words, parts);
}

uint32_t attention_splits(const gpu::Caps& caps, uint32_t rows, uint32_t heads, uint32_t kv_heads,
                          uint32_t positions) {
  if (caps.cpu) return 1;
  const uint32_t groups = rows * kv_heads * teams_of(std::max(1u, heads / kv_heads), 4);
  return std::clamp(split_groups / std::max(1u, groups), 1u,
                    std::clamp(ceil_div(positions, split_keys), 1u, most_splits));
}

gpu::Work attention_decode(const gpu::Caps& caps, const AttentionDecode& a) {
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2];
  const uint32_t kv_heads = std::max(1u, a.cache.k.shape[1]);
  const uint32_t ratio = std::max(1u, heads / kv_heads);
  const uint32_t teams = teams_of(ratio, 4);
  AttentionDecode args = a;
  if (!args.splits)
    args.splits = a.parts ? attention_splits(caps, rows, heads, kv_heads, a.cache.positions()) : 1;
  const KvType type = a.cache.type();
  return attention_decode(
      caps, args,
      {.workgroup_size = !caps.cpu                     ? 128u
                         : value_lanes(head_dim) <= 16 ? 16u
                                                       : 32u,
       .f16_kv = type == KvType::f16,
       .q8_kv = type == KvType::q8_0,
       .use_subgroups = caps.variant.subgroups && !caps.cpu,  // lavapipe shuffles lane by lane
       .multihead = ratio > 1,
       .team = std::max(2u, ceil_div(ratio, teams)),
       .vec4 = is_vec4(head_dim, type),
       .split = args.splits > 1,
       .head_dim = caps.cpu ? 0 : head_dim});  // unrolled loops take lavapipe long to compile
}

gpu::Work attention_decode(const gpu::Caps& caps, const AttentionDecode& a,
                           AttentionDecode::Overrides over) {
  gpu::check(attention_decode_kernel, over);
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2];
  const uint32_t kv_heads = a.cache.k.shape[1];
  check_attention("attention_decode", a.q, a.out, a.cache, a.scale, a.attn_softcap);
  require(rows <= 65535, "attention_decode: {} rows, at most 65535", rows);
  check_kv("attention_decode", a.cache, a.step, rows, kv_heads, head_dim);
  check_window("attention_decode", a.cache, a.step, rows, a.sliding_window);
  require(a.step.slots || a.cache.layout == KvLayout::ring ||
              uint64_t(a.kv_len) + rows <= uint64_t(a.cache.positions()) + 1,
          "attention_decode: {} rows from kv_len {} on exceed a capacity of {}", rows, a.kv_len,
          a.cache.positions());

  require(a.cache.type() == kv_type(over.f16_kv, over.q8_kv),
          "attention_decode: F16_KV is {}, Q8_KV is {}, k is {}", over.f16_kv, over.q8_kv,
          a.cache.k);
  require(!over.use_subgroups || caps.variant.subgroups,
          "attention_decode: USE_SUBGROUPS on {}, which has none", caps.name);
  require(!over.vec4 || is_vec4(head_dim, a.cache.type()),
          "attention_decode: VEC4 with head_dim {} of {}", head_dim, a.cache.k);
  require(over.workgroup_size >= std::max(16u, value_lanes(head_dim)) && over.workgroup_size <= 128,
          "attention_decode: WORKGROUP_SIZE is {}, from {} to 128", over.workgroup_size,
          std::max(16u, value_lanes(head_dim)));

  const uint32_t teams = teams_of(heads / kv_heads, over.multihead ? over.team : 1);
  const uint32_t splits = over.split ? std::max(1u, a.splits) : 1;
  if (over.split) check_attention_parts("attention_decode", a.parts, rows, heads, head_dim, splits);
  require(!over.head_dim || over.head_dim == head_dim,
          "attention_decode: HEAD_DIM {} with heads of {}", over.head_dim, head_dim);
  return gpu::Dispatch{
      .kernel = &attention_decode_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.q, a.cache.k, a.cache.v, a.step.slots, a.cache.block_table,
                   over.split ? a.parts : gpu::View{}, a.out},
      .params = gpu::bytes(AttentionDecode::Params{
          rows, heads, kv_heads, head_dim, a.kv_len, bool(a.step.slots), a.step.prefill,
          a.step.slot, a.scale != 0 ? a.scale : 1 / std::sqrt(float(head_dim)), a.attn_softcap,
          a.sliding_window, uint32_t(a.cache.layout), a.cache.rows(), a.cache.positions(),
          a.cache.page_size, splits, split_keys}),
      .grid = {kv_heads * teams, splits, rows}};
}

}  // namespace ms
