// attention_streaming.cpp: the wrapper of attention_streaming.wgsl.
#include "kernels/attention_streaming/attention_streaming.hpp"

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
  gpu::check(attention_streaming_kernel, over);
  check_attention("attention_streaming", a.q, a.out, a.cache, a.scale, a.attn_softcap);
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2],
                 kv_heads = a.cache.k.shape[1];
  require(a.cache.type() == kv_type(over.f16_kv, false),
          "attention_streaming: F16_KV is {}, k is {}", over.f16_kv, a.cache.k);
  StepRows step = a.step;
  if (!step.slots) step.prefill = true;  // positions of slot 0, one after the other
  check_kv("attention_streaming", a.cache, step, rows, kv_heads, head_dim);
  require(step.slots || a.cache.layout == KvLayout::ring || a.kv_len <= a.cache.positions(),
          "attention_streaming: kv_len {} exceeds a capacity of {}", a.kv_len, a.cache.positions());
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
