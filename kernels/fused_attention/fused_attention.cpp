// fused_attention.cpp: the wrapper of fused_attention.wgsl.
#include "kernels/fused_attention/fused_attention.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/kernels.hpp"

namespace ms {

using gpu::in, gpu::out;

void fused_attention_ref(const gpu::HostDispatch& d);
const gpu::Kernel fused_attention_kernel = gpu::kernel<FusedAttention>(
    "fused_attention", {in, in, in, in, out, out, out, out}, fused_attention_ref);

namespace {

constexpr uint32_t split_groups = 128;  // workgroups that fill a large device
constexpr uint32_t most_splits = 32;    // whose parts take little time to put together

uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

uint32_t subgroup_lanes(const gpu::Caps& caps) {
  return caps.variant.subgroups ? caps.min_subgroup_size : 1;
}

// Elements that are read at once.
uint32_t unit(KvType type) { return type == KvType::f32 ? 4 : 8; }

// As many lanes a key as divide it into a unit each, and as every subgroup has.
uint32_t key_lanes(const gpu::Caps& caps, uint32_t head_dim, KvType type) {
  const uint32_t units = head_dim / unit(type);
  const uint32_t lanes = std::min({32u, std::bit_floor(subgroup_lanes(caps)), units & -units});
  return std::max(1u, lanes);
}

// Of workgroup memory: of either form its own, and what the other keeps in a branch that is not
// taken.
uint64_t workgroup_bytes(const FusedAttention::Overrides& over) {
  const uint64_t exchanged = 4 * 256;  // of matrix.portable.wgsl
  if (over.matrix) {
    return 16 * attention_tile_units(over.head_dim, over.held_keys()) + 16 * 4 + exchanged + 64;
  }
  const uint64_t groups = over.workgroup_size / over.key_lanes;
  return 4ull * over.team * over.head_dim + (over.from_qkv ? 8ull * over.head_dim : 16) +
         8 * over.team * groups + 4 * over.team * groups * over.head_dim + 16 * 64 + 16 + exchanged;
}

// Whether a device has MATRIX for it, where rotations take whole units of eight elements.
bool suits_matrices(const gpu::Caps& caps, const FusedAttention& a,
                    const FusedAttention::Overrides& over) {
  return over.refusal().empty() && caps.has_matrices_of(32) && caps.max_invocations >= 256 &&
         workgroup_bytes(over) <= caps.max_workgroup_bytes && (!a.rope || a.rope.cols() % 8 == 0);
}

}  // namespace

uint64_t attention_tile_units(uint32_t head_dim, uint32_t keys) {
  const uint64_t row = head_dim / 8 + 1;
  const uint64_t scores = 128 / keys * (keys / 4 + 1), sums = head_dim / 4 + 1;
  return 4 * (keys / 8 + 1) + (10 + 2 * keys) * row + 16 * std::max(scores, sums);
}

bool suits_fused_attention(const gpu::Caps& caps, uint32_t head_dim, KvType type) {
  // With fewer lanes a key, a lane's registers are too few. On a CPU, attention_decode is faster.
  return !caps.cpu && head_dim <= 256 && head_dim % unit(type) == 0 &&
         head_dim / key_lanes(caps, head_dim, type) <= 16;
}

AttentionParts choose_parts(uint32_t rows, uint32_t heads, const KvCache& cache) {
  const uint32_t kv_heads = std::max(1u, cache.k.shape[1]), head_dim = cache.head_dim();
  const uint32_t groups = rows * kv_heads * ceil_div(std::max(1u, heads / kv_heads), 4);
  const uint32_t splits = std::min({split_groups / std::max(1u, groups), most_splits,
                                    ceil_div(cache.positions(), FusedAttention::split_keys)});
  return {.rows = rows,
          .heads = heads,
          .head_dim = head_dim,
          .splits = splits < 2 || head_dim % 16 != 0 ? 0 : ceil_div(splits, 4) * 4,
          .f16 = cache.type() != KvType::f32};
}

gpu::Work fused_attention(const gpu::Caps& caps, const FusedAttention& a) {
  const uint32_t kv_heads = std::max(1u, a.cache.k.shape[1]),
                 head_dim = std::max(1u, a.cache.head_dim());
  const uint32_t ratio = std::max(1u, a.heads / kv_heads);
  const KvType type = a.cache.type();
  const uint32_t team = ceil_div(ratio, ceil_div(ratio, 4));
  const bool windowed = a.sliding_window || a.cache.layout == KvLayout::ring;
  const uint32_t lanes = key_lanes(caps, head_dim, type);
  FusedAttention::Overrides over{.workgroup_size = 256,
                                 .f16_kv = type == KvType::f16,
                                 .q8_kv = type == KvType::q8_0,
                                 .from_qkv = bool(a.rope),
                                 .split = bool(a.parts),
                                 .windowed = windowed,
                                 .paged = a.cache.layout == KvLayout::paged,
                                 .head_dim = head_dim,
                                 .team = team,
                                 .key_lanes = lanes,
                                 .keys = std::clamp(64 * lanes / head_dim, 1u, 4u)};
  for (uint32_t keys : {4u, 2u}) {
    FusedAttention::Overrides matrices = over;
    matrices.matrix = true, matrices.keys = keys;
    if (suits_matrices(caps, a, matrices)) return fused_attention(caps, a, matrices);
  }
  over.workgroup_size = std::clamp(16 * lanes, 128u, 256u);
  while (over.workgroup_size > std::max(32u, lanes) &&
         workgroup_bytes(over) > caps.max_workgroup_bytes)
    over.workgroup_size /= 2;
  return fused_attention(caps, a, over);
}

gpu::Work fused_attention(const gpu::Caps& caps, const FusedAttention& a,
                          FusedAttention::Overrides over) {
  gpu::check(fused_attention_kernel, over);
  const uint32_t rows = a.qkv.rows(), heads = a.heads, kv_heads = a.cache.k.shape[1],
                 head_dim = over.head_dim;
  require(a.cache.head_dim() == head_dim, "fused_attention: HEAD_DIM is {}, k is {}", head_dim,
          a.cache.k);
  // Of q and out, of which one stands beside k and v in qkv, and the other is in parts, the shapes.
  const gpu::View q{.shape = {rows, heads, head_dim}};
  check_attention("fused_attention", q, over.split ? q : a.out, a.cache, a.scale, a.attn_softcap);
  require(rows <= 65535, "fused_attention: {} rows, at most 65535", rows);
  const StepRows step{.slots = a.slots};
  require(bool(a.slots), "fused_attention: slots are absent, which say where a row stands");
  check_kv("fused_attention", a.cache, step, rows, kv_heads, head_dim);
  check_window("fused_attention", a.cache, step, rows, a.sliding_window);
  require(a.cache.type() == kv_type(over.f16_kv, over.q8_kv),
          "fused_attention: F16_KV is {}, Q8_KV is {}, k is {}", over.f16_kv, over.q8_kv,
          a.cache.k);
  require(over.from_qkv == bool(a.rope), "fused_attention: FROM_QKV is {}, rope is {}",
          over.from_qkv, a.rope);
  const uint64_t cols = uint64_t(heads + (over.from_qkv ? 2 * kv_heads : 0)) * head_dim;
  require(a.qkv.cols() == cols && a.qkv.size() <= UINT32_MAX,
          "fused_attention: qkv is {}, want [{}, {}]", a.qkv, rows, cols);
  const RopeTables tables =
      over.from_qkv ? check_rope("fused_attention", a.rope, head_dim) : RopeTables{};
  require(tables.max_seq * uint64_t(tables.rotary_dim) % 4 == 0,
          "fused_attention: rope is {}, not in fours of elements", a.rope);
  require(over.key_lanes <= subgroup_lanes(caps),
          "fused_attention: KEY_LANES is {}, subgroups of {} have {} lanes", over.key_lanes,
          caps.name, subgroup_lanes(caps));

  require(
      !over.matrix || suits_matrices(caps, a, over),
      "fused_attention: MATRIX takes subgroup matrices, subgroups of 32, and rotations of whole "
      "sixteens of a head; {} has {}, subgroups of {} to {}, rope is {}",
      caps.name, to_string(caps.variant), caps.min_subgroup_size, caps.max_subgroup_size, a.rope);
  const uint32_t ratio = heads / kv_heads, teams = ceil_div(ratio, over.team);
  require(over.windowed || (!a.sliding_window && a.cache.layout != KvLayout::ring),
          "fused_attention: WINDOWED is false, but keys begin at position 0 neither in a window of "
          "{} nor in a ring",
          a.sliding_window);
  require(over.split == bool(a.parts), "fused_attention: SPLIT is {}, parts are {}", over.split,
          a.parts.words);
  if (over.split) {
    check_parts("fused_attention", a.parts);
    require(a.parts.rows == rows && a.parts.heads == heads && a.parts.head_dim == head_dim &&
                a.parts.f16 == (over.f16_kv || over.q8_kv) && a.parts.splits <= 65535,
            "fused_attention: parts are of [{}, {}, {}]{}, out would be [{}, {}, {}]{}",
            a.parts.rows, a.parts.heads, a.parts.head_dim, a.parts.f16 ? " f16" : "", rows, heads,
            head_dim, over.f16_kv || over.q8_kv ? " f16" : "");
  }
  require(over.paged == (a.cache.layout == KvLayout::paged),
          "fused_attention: PAGED is {}, kv_layout is {}", over.paged, uint32_t(a.cache.layout));
  const uint64_t bytes = workgroup_bytes(over);
  require(over.workgroup_size <= caps.max_invocations && bytes <= caps.max_workgroup_bytes,
          "fused_attention: {} lanes and {} bytes a workgroup; {} has {} and {}",
          over.workgroup_size, bytes, caps.name, caps.max_invocations, caps.max_workgroup_bytes);
  return gpu::Dispatch{
      .kernel = &fused_attention_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.qkv, a.rope, a.slots, a.cache.block_table, a.cache.k, a.cache.v, a.parts.words,
                   over.split ? gpu::View{} : a.out},
      .params = gpu::bytes(FusedAttention::Params{
          rows, heads, kv_heads, ratio, teams, ceil_div(ratio, teams),
          a.scale != 0 ? a.scale : 1 / std::sqrt(float(head_dim)), a.attn_softcap, a.sliding_window,
          uint32_t(a.cache.layout), a.cache.rows(), a.cache.positions(), a.cache.page_size,
          a.parts.splits, tables.max_seq, tables.rotary_dim, a.interleaved}),
      .grid = {kv_heads * teams, std::max(1u, a.parts.splits), rows}};
}

}  // namespace ms
