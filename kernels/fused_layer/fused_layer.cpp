// fused_layer.cpp: the wrapper of fused_layer.wgsl.
#include "kernels/fused_layer/fused_layer.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

#include "gpu/device.hpp"
#include "kernels/fused_attention/fused_attention.hpp"
#include "kernels/slot.hpp"

namespace ms {

using gpu::in, gpu::out;

void fused_layer_ref(const gpu::HostDispatch& d);
const gpu::Kernel fused_layer_kernel = gpu::kernel<FusedLayer>(
    "fused_layer", {in, out, out, out, in, out, out, out, out, out, out}, fused_layer_ref);

namespace {

// Of workgroup memory.
uint64_t workgroup_bytes(const FusedLayer::Overrides& over) {
  const uint64_t lanes = over.workgroup_size;
  uint64_t tile = std::max<uint64_t>(2 * over.halves, 64);
  if (over.attention) tile = std::max(tile, attention_tile_units(over.head_dim, 16 * over.keys));
  // The tile, scales, rows, sums, attention's states and the layers' places; and what
  // matrix.portable.wgsl exchanges.
  return 16 * tile + 8ull * over.halves + 8 * lanes + 4 * (lanes / 4 + 1) + 64 + 64 +
         sizeof(FusedLayer::Places) * (over.layers + 1) + 4 * std::max<uint64_t>(256, lanes);
}

// Rounds of waiting, of half a microsecond each on a GPU: far more than any wait takes, and far
// less than what a driver would reset the device for. Threads of a CPU may be away for long.
uint32_t patience(const gpu::Caps& caps) { return caps.cpu_threads ? 1 << 24 : 1 << 14; }

// Workgroups that run at once: one for each of most multiprocessors of a large GPU.
uint32_t choose_groups(const gpu::Caps& caps) { return caps.cpu_threads ? caps.cpu_threads : 128; }

uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

bool one_of(WeightType type, std::initializer_list<WeightType> types) {
  return std::ranges::find(types, type) != types.end();
}

bool takes(const gpu::Caps& caps, const Weight& w) {
  using enum WeightType;
  return one_of(w.type, {f16, bf16, q8_0, q4_0, q4_k, q5_k, q6_k}) && !w.plain() &&
         w.row_tile == 1 && w.cols % 64 == 0 &&
         w.quants.size() >= quant_words(w.type, w.rows, w.cols) &&
         w.scales.size() >= scale_words(w.type, w.rows, w.cols) &&
         w.quants.bytes() <= caps.max_binding_bytes;
}

// Whether a matrix is Q6_K beside O of another type.
bool is_q6_k_beside(WeightType output, WeightType type) {
  return type == WeightType::q6_k && one_of(output, {WeightType::q4_k, WeightType::q5_k});
}

// All that one binding reaches of a view's buffer.
gpu::View whole(const gpu::View& view) {
  if (!view) return {};
  return {.buffer = view.buffer,
          .shape = {view.buffer->bytes / bytes_of(view.type)},
          .type = view.type};
}

bool of_one_buffer(const gpu::View& first, std::initializer_list<gpu::View> others) {
  return std::ranges::all_of(
      others, [&](const gpu::View& view) { return !view || view.buffer == first.buffer; });
}

// Whether b's quants lie beside a's, and its scales, norms and bias beside a's.
bool lie_together(const FusedLayer::Layer& a, const FusedLayer::Layer& b) {
  return of_one_buffer(a.output.quants, {b.qkv.quants, b.v.quants, b.output.quants,
                                         b.gate_up.quants, b.down.quants}) &&
         of_one_buffer(a.ffn_norm, {b.qkv.scales, b.v.scales, b.output.scales, b.gate_up.scales,
                                    b.down.scales, b.attn_norm, b.ffn_norm, b.qkv_bias});
}

}  // namespace

FusedLayer::Places FusedLayer::place(const Layer& a) {
  const auto quants = [](const Weight& w) { return uint32_t(w.quants.offset / 16); };
  const auto scales = [](const Weight& w) { return uint32_t(w.scales.offset / 4); };
  return {.o_quants = quants(a.output),
          .o_scales = scales(a.output),
          .gate_up_quants = quants(a.gate_up),
          .gate_up_scales = scales(a.gate_up),
          .down_quants = quants(a.down),
          .down_scales = scales(a.down),
          .w_quants = quants(a.qkv),
          .w_scales = scales(a.qkv),
          .v_quants = quants(a.v),
          .v_scales = scales(a.v),
          .v_first = a.v ? a.qkv.rows : UINT32_MAX,
          .down_q6_k = is_q6_k_beside(a.output.type, a.down.type),
          .attn_norm = uint32_t(a.attn_norm.offset / 4),
          .ffn_norm = uint32_t(a.ffn_norm.offset / 4),
          .cache = uint32_t(a.cache.k.offset / 16),
          .qkv_bias = a.qkv_bias ? uint32_t(a.qkv_bias.offset / 4) : UINT32_MAX};
}

std::string fused_layer_refusal(const gpu::Caps& caps, const FusedLayer::Layer& a) {
  if (caps.max_storage_buffers < FusedLayer::storage_buffers)
    return fmt::format("{} has {} storage buffers a kernel, it takes {}", caps.name,
                       caps.max_storage_buffers, FusedLayer::storage_buffers);
  if (caps.min_subgroup_size < 4)
    return fmt::format("{} has no subgroups, which it takes", caps.name);
  for (const auto& [name, w] :
       {std::pair("output", &a.output), {"gate and up", &a.gate_up}, {"down", &a.down}}) {
    if (!takes(caps, *w))
      return fmt::format(
          "the {} weights are {} [{}, {}]; it takes f16, bf16, q8_0, q4_0, q4_k, q5_k and q6_k, "
          "columns in 64s, whole rows and no tiles of them, at most {} bytes",
          name, to_string(w->type), w->rows, w->cols, caps.max_binding_bytes);
    if (w->type != a.output.type && !(w == &a.down && is_q6_k_beside(a.output.type, w->type)))
      return fmt::format(
          "the {} weights are {} beside an output of {}; it takes one type, and down weights of "
          "q6_k beside q4_k and q5_k",
          name, to_string(w->type), to_string(a.output.type));
  }
  if (!lie_together(
          a, {.ffn_norm = a.ffn_norm, .output = a.output, .gate_up = a.gate_up, .down = a.down}))
    return fmt::format("a layer's weights are not in one buffer, of at most {} bytes",
                       caps.max_binding_bytes);
  return "";
}

bool suits_fused_layer(const gpu::Caps& caps, const FusedLayer::Layer& layer,
                       const FusedLayer::Layer& next) {
  const Weight &qkv = next.qkv, &v = next.v;
  if (!takes(caps, qkv) || qkv.type != layer.output.type) return false;
  if (v && !(takes(caps, v) && is_q6_k_beside(qkv.type, v.type) && v.cols == qkv.cols &&
             qkv.rows % 2 == 0))
    return false;
  return lie_together(layer,
                      {.attn_norm = next.attn_norm, .qkv = qkv, .v = v, .qkv_bias = next.qkv_bias});
}

bool suits_fused_attention_within(const gpu::Caps& caps, uint32_t heads, const KvCache& cache,
                                  const gpu::View& rope) {
  const uint32_t head_dim = cache.head_dim();
  return caps.has_matrices_of(32) && cache.type() == KvType::f16 &&
         cache.layout == KvLayout::contiguous && head_dim % 16 == 0 && head_dim <= 128 &&
         heads % cache.k.shape[1] == 0 && rope.cols() % 8 == 0;
}

gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& a) {
  require(!a.layers.empty(), "fused_layer: there are no layers");
  const FusedLayer::Layer& first = a.layers.front();
  FusedLayer::Overrides over;
  over.weight_type = uint32_t(first.output.type);
  over.some_q6_k = is_q6_k_beside(first.output.type, a.next.v.type);
  uint32_t longest = 256;
  for (const FusedLayer::Layer& l : a.layers) {
    over.some_q6_k |= (a.heads && l.v) || is_q6_k_beside(first.output.type, l.down.type);
    longest = std::max({longest, l.down.rows, l.down.cols, l.output.cols});
  }
  over.halves = longest / 16;
  over.workgroup_size = std::min(512u, std::bit_floor(caps.max_invocations));
  over.parts = bool(a.parts);
  if (a.parts) over.f16_parts = a.parts.f16, over.head_dim = a.parts.head_dim;
  over.attention = a.heads != 0;
  if (over.attention) {
    const uint32_t ratio = a.heads / std::max(1u, first.cache.k.shape[1]);
    over.layers = uint32_t(a.layers.size());
    over.head_dim = first.cache.head_dim();
    over.team = ceil_div(ratio, ceil_div(ratio, 4));
    over.keys = over.head_dim <= 64 ? 4 : 2;
  }
  return fused_layer(caps, a, over);
}

gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& a, FusedLayer::Overrides over) {
  gpu::check(fused_layer_kernel, over);
  require(!a.layers.empty() && a.layers.size() <= over.layers &&
              over.layers < over.workgroup_size && (over.attention || a.layers.size() == 1),
          "fused_layer: {} layers, LAYERS is {}, ATTENTION {}, WORKGROUP_SIZE {}", a.layers.size(),
          over.layers, over.attention, over.workgroup_size);
  const uint64_t bytes = workgroup_bytes(over);
  require(over.workgroup_size <= caps.max_invocations && bytes <= caps.max_workgroup_bytes,
          "fused_layer: {} lanes and {} bytes a workgroup; {} has {} and {}", over.workgroup_size,
          bytes, caps.name, caps.max_invocations, caps.max_workgroup_bytes);
  const FusedLayer::Layer& first = a.layers.front();
  const uint32_t dim = first.down.rows, ffn = first.down.cols, heads_dim = first.output.cols;
  bool some_q6_k = false;
  const auto check_qkv = [&](const FusedLayer::Layer& l) {
    FusedLayer::Layer alone = l;
    alone.v = {};
    require(suits_fused_layer(caps, first, alone),
            "fused_layer: qkv is {} [{}, {}]; it takes what it takes as the output's, {} here, in "
            "the same buffer",
            to_string(l.qkv.type), l.qkv.rows, l.qkv.cols, to_string(first.output.type));
    require(suits_fused_layer(caps, first, l),
            "fused_layer: v is {} [{}, {}] beside {} of [{}, {}]; it takes q6_k beside q4_k and "
            "q5_k, of an even number of rows, in the same buffer",
            to_string(l.v.type), l.v.rows, l.v.cols, to_string(l.qkv.type), l.qkv.rows, l.qkv.cols);
    require(l.qkv.cols == dim && l.attn_norm.size() == dim &&
                (!l.qkv_bias || l.qkv_bias.size() == l.qkv.rows + l.v.rows),
            "fused_layer: qkv is [{}, {}], its norm {}, its bias {}; D has {} rows", l.qkv.rows,
            l.qkv.cols, l.attn_norm, l.qkv_bias, dim);
    some_q6_k |= bool(l.v);
  };
  for (const FusedLayer::Layer& l : a.layers) {
    const std::string why = fused_layer_refusal(caps, l);
    require(why.empty(), "fused_layer: {}", why);
    require(l.output.type == first.output.type && lie_together(first, l),
            "fused_layer: layers are of {} and {}, or not in one buffer",
            to_string(first.output.type), to_string(l.output.type));
    for (const auto& [name, w, rows, cols] : {std::tuple("output", &l.output, dim, heads_dim),
                                              {"gate_up", &l.gate_up, 2 * ffn, dim},
                                              {"down", &l.down, dim, ffn}})
      require(w->rows == rows && w->cols == cols, "fused_layer: {} is [{}, {}], want [{}, {}]",
              name, w->rows, w->cols, rows, cols);
    require(l.ffn_norm.size() == dim, "fused_layer: ffn_norm is {}; D has {} rows", l.ffn_norm,
            dim);
    some_q6_k |= is_q6_k_beside(first.output.type, l.down.type);
    if (over.attention) check_qkv(l);
  }
  if (a.next.qkv) check_qkv(a.next);
  require(
      over.some_q6_k == some_q6_k && over.weight_type == uint32_t(first.output.type),
      "fused_layer: WEIGHT_TYPE is {} and SOME_Q6_K {}, the output's weights are {}, {} of q6_k "
      "beside them",
      over.weight_type, over.some_q6_k, to_string(first.output.type), some_q6_k ? "some" : "none");
  const FusedLayer::Layer& makes_qkv = over.attention ? first : a.next;
  FusedLayer::Params p{.dim = dim,
                       .heads_dim = heads_dim,
                       .ffn = ffn,
                       .qkv_rows = makes_qkv.qkv.rows + makes_qkv.v.rows,
                       .alpha = a.alpha,
                       .activation = uint32_t(a.activation),
                       .eps = a.eps,
                       .first_layer = a.first_layer,
                       .layer_count = uint32_t(a.layers.size()),
                       .qkv_follows = bool(a.next.qkv),
                       .patience = patience(caps),
                       .splits = a.parts.splits,
                       .heads = heads_dim / over.head_dim,
                       .kv_heads = 1,
                       .ratio = 1,
                       .teams = 1,
                       .team_heads = 1,
                       .scale = a.scale != 0 ? a.scale : 1 / std::sqrt(float(over.head_dim)),
                       .attn_softcap = a.attn_softcap,
                       .capacity = 1,
                       .max_seq = 1,
                       .rotary_dim = 0,
                       .interleaved = a.interleaved};
  const uint32_t groups = a.groups ? a.groups : choose_groups(caps);
  require(over.attention == (a.heads != 0) && over.parts == bool(a.parts),
          "fused_layer: ATTENTION is {} for {} heads, PARTS {}, parts are {}", over.attention,
          a.heads, over.parts, a.parts.words);
  if (over.attention) {
    require(!a.attended && !a.next.qkv,
            "fused_layer: with attention, attended is {}, and QKV that follow [{}, {}]: want none",
            a.attended, a.next.qkv.rows, a.next.qkv.cols);
    require(
        !caps.variant.matrix || caps.has_matrices_of(32),
        "fused_layer: ATTENTION takes subgroups of 32 where there are matrices; {} has {} to {}",
        caps.name, caps.min_subgroup_size, caps.max_subgroup_size);
    const KvCache& cache = first.cache;
    const gpu::View q{.shape = {1, a.heads, over.head_dim}};
    for (const FusedLayer::Layer& l : a.layers) {
      check_attention("fused_layer", q, q, l.cache, a.scale, a.attn_softcap);
      check_kv("fused_layer", l.cache, {.slots = a.slots}, 1, l.cache.k.shape[1], over.head_dim);
      require(l.cache.type() == KvType::f16 && l.cache.layout == KvLayout::contiguous &&
                  l.cache.positions() == cache.positions() &&
                  l.cache.k.offset == l.cache.v.offset && of_one_buffer(cache.k, {l.cache.k}) &&
                  of_one_buffer(cache.v, {l.cache.v}),
              "fused_layer: k is {}, v {}; it takes contiguous caches of f16, all of a size and "
              "alike in one buffer of keys and one of values",
              l.cache.k, l.cache.v);
    }
    p.kv_heads = cache.k.shape[1];
    p.ratio = a.heads / p.kv_heads;
    p.teams = ceil_div(p.ratio, over.team);
    p.team_heads = ceil_div(p.ratio, p.teams);
    p.capacity = cache.positions();
    p.splits = std::clamp(groups / (p.kv_heads * p.teams) / 4 * 4, 4u, FusedLayer::most_splits);
    const RopeTables tables = check_rope("fused_layer", a.rope, over.head_dim);
    p.max_seq = tables.max_seq, p.rotary_dim = tables.rotary_dim;
    require(a.heads * over.head_dim == heads_dim &&
                p.qkv_rows == heads_dim + 2 * p.kv_heads * over.head_dim && a.rope.cols() % 8 == 0,
            "fused_layer: {} heads of HEAD_DIM {} that share {}, O has {} columns and W {} rows; "
            "rope is {}, which is to be in eights",
            a.heads, over.head_dim, p.kv_heads, heads_dim, p.qkv_rows, a.rope);
  } else if (a.parts) {
    check_parts("fused_layer", a.parts);
    require(over.f16_parts == a.parts.f16 && over.head_dim == a.parts.head_dim && !a.attended &&
                a.parts.rows == 1 && uint64_t(a.parts.heads) * a.parts.head_dim == heads_dim,
            "fused_layer: F16_PARTS is {} and HEAD_DIM {}, parts are of [{}, {}, {}]{}, O has {} "
            "columns",
            over.f16_parts, over.head_dim, a.parts.rows, a.parts.heads, a.parts.head_dim,
            a.parts.f16 ? " f16" : "", heads_dim);
  } else {
    require(a.attended.size() == heads_dim, "fused_layer: attended is {}, O has {} columns",
            a.attended, heads_dim);
  }
  require(a.x.size() == dim && bool(a.next.qkv) == bool(a.qkv) &&
              (!a.qkv || a.qkv.size() == p.qkv_rows),
          "fused_layer: x is {}, qkv {}; D has {} rows, the next layer's QKV {}", a.x, a.qkv, dim,
          p.qkv_rows);
  const uint64_t words = FusedLayer::exchange_words(dim, ffn, p.heads, p.kv_heads, over.head_dim);
  require(a.exchange.type == gpu::Type::u32 && a.exchange.size() >= (over.attention ? words : 0) &&
              a.exchange.size() >= FusedLayer::exchange_words(dim, ffn, 0, 0, 0),
          "fused_layer: exchange is {}, want {} words", a.exchange, words);
  require(a.places.type == gpu::Type::u32 && a.places.cols() == sizeof(FusedLayer::Places) / 4 &&
              a.first_layer + a.layers.size() + p.qkv_follows <= a.places.rows(),
          "fused_layer: places are {}, of {} layers from {} on", a.places, a.layers.size(),
          a.first_layer);
  require(a.slots.size() >= sizeof(Slot) / 4, "fused_layer: slots are {}, want one", a.slots);
  require(16 * over.halves >= std::max({dim, ffn, heads_dim}),
          "fused_layer: HALVES {} are {} elements; vectors have {}, {} and {}", over.halves,
          16 * over.halves, heads_dim, dim, ffn);
  const uint32_t own_rows = ceil_div(dim / 16, groups) * 16;
  require(own_rows <= over.workgroup_size && groups < 65536,
          "fused_layer: {} workgroups have {} rows of {} each, at most WORKGROUP_SIZE {}", groups,
          own_rows, dim, over.workgroup_size);
  return gpu::Dispatch{
      .kernel = &fused_layer_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.parts ? a.parts.words : a.attended, a.x, whole(first.output.quants),
                   whole(first.ffn_norm), a.places, a.exchange, a.qkv, a.slots, a.rope,
                   whole(first.cache.k), whole(first.cache.v)},
      .params = gpu::bytes(p),
      .grid = {groups, 1, 1}};
}

}  // namespace ms
