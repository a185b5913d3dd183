// attention_prefill.cpp: the wrapper of attention_prefill.wgsl.
#include "kernels/attention_prefill/attention_prefill.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/shared/lane.hpp"

namespace ms {

using gpu::in, gpu::out;

void attention_prefill_ref(const gpu::HostDispatch& d);
const gpu::Kernel attention_prefill_kernel = gpu::kernel<AttentionPrefill>(
    "attention_prefill", {in, in, in, in, in, out}, attention_prefill_ref);

namespace {

constexpr uint32_t matrix_queries = 64;  // of a workgroup

// Of workgroup memory, with MATRIX.
uint32_t matrix_bytes(const AttentionPrefill::Overrides& over) {
  const uint32_t row = over.head_tile / 8 + 1;  // of keys or queries, in 16 bytes
  return 16 * std::max(matrix_queries * row, 32 * row + matrix_queries * 9);
}

bool has_matrices(const gpu::Caps& caps, const AttentionPrefill::Overrides& over) {
  return caps.has_matrices_of(32) && caps.max_workgroup_bytes >= matrix_bytes(over);
}

}  // namespace

gpu::Work attention_prefill(const gpu::Caps& caps, const AttentionPrefill& a) {
  const uint32_t rows = a.q.shape[0], head_dim = a.q.cols();
  const KvType type = a.cache.type();
  AttentionPrefill::Overrides over{.f16_kv = type == KvType::f16,
                                   .q8_kv = type == KvType::q8_0,
                                   .small_tiles = false,
                                   .block_size = rows <= 32 ? 32u : 64u,
                                   .head_tile = head_dim <= 32 ? 32u : 64u};
  over.use_subgroups = caps.cpu && has_shared_lanes(caps);
  const AttentionPrefill::Overrides matrices{.f16_kv = over.f16_kv,
                                             .q8_kv = over.q8_kv,
                                             .block_size = 128,
                                             .head_tile = head_dim <= 64 ? 64u : 128u,
                                             .matrix = true};
  if (type != KvType::f32 && rows >= 16 && head_dim <= 128 && has_matrices(caps, matrices))
    over = matrices;
  return attention_prefill(caps, a, over);
}

gpu::Work attention_prefill(const gpu::Caps& caps, const AttentionPrefill& a,
                            AttentionPrefill::Overrides over) {
  gpu::check(attention_prefill_kernel, over);
  check_attention("attention_prefill", a.q, a.out, a.cache, a.scale, a.attn_softcap);
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2],
                 kv_heads = a.cache.k.shape[1];
  require(a.cache.type() == kv_type(over.f16_kv, over.q8_kv),
          "attention_prefill: F16_KV is {}, Q8_KV is {}, k is {}", over.f16_kv, over.q8_kv,
          a.cache.k);
  require(!over.matrix || (has_matrices(caps, over) && head_dim <= over.head_tile),
          "attention_prefill: MATRIX takes subgroup matrices, subgroups of 32 and head_dim up to "
          "HEAD_TILE; {} has {}, subgroups of {} to {}, head_dim is {}",
          caps.name, to_string(caps.variant), caps.min_subgroup_size, caps.max_subgroup_size,
          head_dim);
  if (over.use_subgroups) require_shared_lanes(caps, "attention_prefill");
  const uint64_t sharing = over.matrix ? 1 : heads / kv_heads;  // heads of a workgroup
  const uint64_t queries = over.matrix ? matrix_queries : over.block_size;
  require(rows * sharing <= 65535 * queries, "attention_prefill: {} rows, at most {}", rows,
          65535 * queries / sharing);
  require(!a.step.slots || a.step.prefill,
          "attention_prefill: rows of one slot each: attention_decode's");
  StepRows step = a.step;
  step.prefill = true;
  check_kv("attention_prefill", a.cache, step, rows, kv_heads, head_dim);
  require(step.slots || a.cache.layout == KvLayout::ring || a.kv_len <= a.cache.positions(),
          "attention_prefill: kv_len {} exceeds a capacity of {}", a.kv_len, a.cache.positions());
  const AttentionPrefill::Params params{rows,
                                        heads,
                                        kv_heads,
                                        head_dim,
                                        a.kv_len,
                                        bool(a.step.slots),
                                        a.step.slot,
                                        a.step.start_pos,
                                        a.is_causal,
                                        a.scale ? a.scale : 1 / std::sqrt(float(head_dim)),
                                        a.attn_softcap,
                                        a.sliding_window,
                                        uint32_t(a.cache.layout),
                                        a.cache.rows(),
                                        a.cache.positions(),
                                        a.cache.page_size};
  return gpu::Dispatch{
      .kernel = &attention_prefill_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.q, a.cache.k, a.cache.v, a.step.slots, a.cache.block_table, a.out},
      .params = gpu::bytes(params),
      .grid = {uint32_t((rows * sharing + queries - 1) / queries), uint32_t(heads / sharing),
               (head_dim + over.head_tile - 1) / over.head_tile}};
}

}  // namespace ms
