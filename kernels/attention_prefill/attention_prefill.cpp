// attention_prefill.cpp: the wrapper of attention_prefill.wgsl.
#include "kernels/attention_prefill/attention_prefill.hpp"

#include <cmath>

namespace ms {

using gpu::in, gpu::out;

void attention_prefill_ref(const gpu::HostDispatch& d);
const gpu::Kernel attention_prefill_kernel = gpu::kernel<AttentionPrefill>(
    "attention_prefill", {in, in, in, in, in, out}, attention_prefill_ref);

gpu::Work attention_prefill(const gpu::Caps& caps, const AttentionPrefill& a) {
  const bool short_heads = a.q.cols() <= 32;
  return attention_prefill(caps, a,
                           {.f16_kv = a.cache.k.type == gpu::Type::f16,
                            .small_tiles = false,
                            .block_size = a.q.shape[0] <= 32 ? 32u : 64u,
                            .head_tile = short_heads ? 32u : 64u});
}

gpu::Work attention_prefill(const gpu::Caps&, const AttentionPrefill& a,
                            AttentionPrefill::Overrides over) {
  gpu::check(attention_prefill_kernel, over);
  check_attention("attention_prefill", a.q, a.out, a.cache, a.scale, a.attn_softcap);
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2],
                 kv_heads = a.cache.k.shape[1];
  require((a.cache.k.type == gpu::Type::f16) == over.f16_kv,
          "attention_prefill: k is {}, F16_KV is {}", a.cache.k, over.f16_kv);
  require(uint64_t(rows) <= 65535ull * over.block_size, "attention_prefill: {} rows, at most {}",
          rows, 65535ull * over.block_size);
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
      .grid = {(rows + over.block_size - 1) / over.block_size, heads,
               (head_dim + over.head_tile - 1) / over.head_tile}};
}

}  // namespace ms
