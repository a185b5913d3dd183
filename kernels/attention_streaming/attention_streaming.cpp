// attention_streaming.cpp: the wrapper of attention_streaming.wgsl.
#include "kernels/attention_streaming/attention_streaming.hpp"

#include <bit>
#include <cmath>

namespace ms {

using gpu::in, gpu::out;

void attention_streaming_ref(const gpu::HostDispatch& d);
const gpu::Kernel attention_streaming_kernel = gpu::kernel<AttentionStreaming>(
    "attention_streaming", {in, in, in, in, in, out}, attention_streaming_ref);

gpu::Work attention_streaming(const gpu::Caps& caps, const AttentionStreaming& a) {
  return attention_streaming(caps, a, {.f16_kv = a.cache.k.type == gpu::Type::f16});
}

gpu::Work attention_streaming(const gpu::Caps&, const AttentionStreaming& a,
                              AttentionStreaming::Overrides over) {
  require(a.q.shape.rank == 3 && a.cache.k.shape.rank == 3,
          "attention_streaming: q is {}, k is {}, want [rows, heads, head_dim] of both", a.q,
          a.cache.k);
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2],
                 kv_heads = a.cache.k.shape[1];
  require(head_dim >= 1 && head_dim <= 256, "attention_streaming: head_dim is {}, at most 256",
          head_dim);
  require(kv_heads > 0 && heads % kv_heads == 0,
          "attention_streaming: {} heads do not share {} KV heads", heads, kv_heads);
  require(a.out.size() == a.q.size(), "attention_streaming: out is {}, q is {}", a.out, a.q);
  require(over.f16_kv == (a.cache.k.type == gpu::Type::f16),
          "attention_streaming: F16_KV is {}, k is {}", over.f16_kv, a.cache.k);
  require(std::has_single_bit(over.workgroup_size) && over.workgroup_size >= 64,
          "attention_streaming: WORKGROUP_SIZE is {}, a power of two from 64 on",
          over.workgroup_size);
  require(a.q.size() <= UINT32_MAX && a.cache.k.size() <= UINT32_MAX,
          "attention_streaming: q is {}, k is {}: more than 2^32 - 1 elements", a.q, a.cache.k);
  StepRows step = a.step;
  if (!step.slots) step.prefill = true;  // positions of slot 0, one after the other
  check_kv("attention_streaming", a.cache, step, rows, kv_heads, head_dim);
  check_window("attention_streaming", a.cache, step, rows, a.sliding_window);

  const AttentionStreaming::Params params{rows,
                                          heads,
                                          kv_heads,
                                          head_dim,
                                          a.kv_len,
                                          bool(a.step.slots),
                                          a.step.prefill,
                                          a.step.slot,
                                          a.step.start_pos,
                                          a.is_causal,
                                          a.scale != 0 ? a.scale : 1 / std::sqrt(float(head_dim)),
                                          a.attn_softcap,
                                          a.sliding_window,
                                          uint32_t(a.cache.layout),
                                          a.cache.rows(),
                                          a.cache.positions(),
                                          a.cache.page_size};
  return gpu::Dispatch{
      .kernel = &attention_streaming_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.q, a.cache.k, a.cache.v, a.step.slots, a.cache.block_table, a.out},
      .params = gpu::bytes(params),
      .grid = gpu::fold(uint64_t(rows) * heads)};
}

}  // namespace ms
