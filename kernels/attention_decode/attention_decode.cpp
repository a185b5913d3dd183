// attention_decode.cpp: the wrapper of attention_decode.wgsl.
#include "kernels/attention_decode/attention_decode.hpp"

#include <algorithm>
#include <cmath>

#include "kernels/kernels.hpp"

namespace ms {

using gpu::in, gpu::out;

void attention_decode_ref(const gpu::HostDispatch& d);
const gpu::Kernel attention_decode_kernel = gpu::kernel<AttentionDecode>("attention_decode", {in, in, in, in, in, in, out}, attention_decode_ref);

gpu::Work attention_decode(const gpu::Caps& caps, const AttentionDecode& a) {
  return attention_decode(caps, a, {.f16_kv = a.cache.k.type == gpu::Type::f16, .use_subgroups = caps.variant.subgroups, .multihead=true});
}

gpu::Work attention_decode(const gpu::Caps&, const AttentionDecode& a, AttentionDecode::Overrides over) {
  const uint32_t rows = a.q.shape[0], heads = a.q.shape[1], head_dim = a.q.shape[2], kv_heads = a.cache.k.shape[1];
  check_kv("attention_decode", a.cache, a.step, rows, kv_heads, head_dim);
  const uint32_t ratio = heads / kv_heads;
  const uint32_t team = over.multihead ? over.team : 1;
  const uint32_t teams = (ratio + team - 1) / team;
  const uint32_t splits = over.split ? std::max(1u, a.splits) : 1;
  AttentionDecode::Params params{rows, heads, kv_heads, head_dim, a.kv_len, bool(a.step.slots), a.step.prefill, a.step.slot,
    a.scale ? a.scale : 1 / std::sqrt(float(head_dim)), a.attn_softcap, a.sliding_window, uint32_t(a.cache.layout), a.cache.rows(), a.cache.positions(), a.cache.page_size, splits, 64};
  gpu::Work work;
  gpu::View partials;
  if (over.split) partials = work.add_scratch({rows, heads, splits, head_dim + 2});
  work.dispatches.push_back({.kernel = &attention_decode_kernel, .constants = gpu::constants(over),
   .bindings = {a.q, a.cache.k, a.cache.v, a.step.slots, a.cache.block_table, {}, over.split ? partials : a.out},
   .params = gpu::bytes(params), .grid = {splits, kv_heads * teams, rows}});
  if (over.split)
    work.dispatches.push_back({.kernel = &attention_decode_kernel, .constants = gpu::constants(AttentionDecode::Overrides{.workgroup_size=over.workgroup_size, .use_subgroups=over.use_subgroups, .combine=true}),
     .bindings = {{}, {}, {}, a.step.slots, {}, partials, a.out}, .params = gpu::bytes(params), .grid = {heads, rows, 1}});
  return work;
}

}  // namespace ms
