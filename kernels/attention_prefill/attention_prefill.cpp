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
  require(a.q.shape.rank == 3 && a.cache.k.shape.rank == 3,
          "attention_prefill: q is {}, k is {}, want [rows, heads, head_dim] of both", a.q,
          a.cache.k);
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2],
                 kv_heads = a.cache.k.shape[1];
  require(head_dim >= 1 && head_dim <= 256, "attention_prefill: head_dim {}, at most 256",
          head_dim);
  require(kv_heads > 0 && heads % kv_heads == 0,
          "attention_prefill: {} heads do not divide among {} KV heads", heads, kv_heads);
  require(a.out.size() == a.q.size(), "attention_prefill: out is {}, q is {}", a.out, a.q);
  require((a.cache.k.type == gpu::Type::f16) == over.f16_kv,
          "attention_prefill: k is {}, F16_KV is {}", a.cache.k, over.f16_kv);
  require(heads <= 65535, "attention_prefill: {} heads, at most 65535", heads);
  require(!a.step.slots || a.step.prefill,
          "attention_prefill: rows of one slot each: attention_decode's");
  StepRows step = a.step;
  step.prefill = true;
  check_kv("attention_prefill", a.cache, step, rows, kv_heads, head_dim);
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
