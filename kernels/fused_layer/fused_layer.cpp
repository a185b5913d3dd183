// fused_layer.cpp: the wrapper of fused_layer.wgsl.
#include "kernels/fused_layer/fused_layer.hpp"

#include <algorithm>
#include <bit>

#include "kernels/slot.hpp"

namespace ms {

using gpu::in, gpu::out;

void fused_layer_ref(const gpu::HostDispatch& d);
const gpu::Kernel fused_layer_kernel = gpu::kernel<FusedLayer>(
    "fused_layer", {in, out, in, in, out, out, out, out, out}, fused_layer_ref);

namespace {

// Of workgroup memory.
uint64_t workgroup_bytes(const FusedLayer::Overrides& over) {
  return 40ull * over.halves + 8ull * over.workgroup_size + 4 * (over.workgroup_size / 4 + 1) + 16;
}

// Rounds of waiting, of half a microsecond each on a GPU: far more than any wait takes, and far
// less than what a driver would reset the device for. Threads of a CPU may be away for long.
uint32_t patience(const gpu::Caps& caps) { return caps.cpu ? 1 << 24 : 1 << 14; }

// Workgroups that run at once: one for each of most multiprocessors of a large GPU.
uint32_t choose_groups(const gpu::Caps& caps) { return caps.cpu ? caps.cpu_threads : 128; }

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

// What matrices have of one buffer, from the first one's beginning to the last one's end; nothing
// if they lie in several.
gpu::View spanning(std::initializer_list<Weight> matrices, gpu::View Weight::*part) {
  gpu::View all;
  for (const Weight& w : matrices) {
    const gpu::View& view = w.*part;
    if (!view) continue;
    if (!all) all = view;
    if (view.buffer != all.buffer || view.scratch != all.scratch) return {};
    const uint64_t first = std::min(all.offset, view.offset),
                   end = std::max(all.offset + all.bytes(), view.offset + view.bytes());
    all.offset = first;
    all.shape = {(end - first) / 4};
  }
  return all;
}

// Whether one binding reaches all their quants, and one all their scales.
bool lie_together(const gpu::Caps& caps, std::initializer_list<Weight> matrices) {
  const gpu::View quants = spanning(matrices, &Weight::quants),
                  scales = spanning(matrices, &Weight::scales);
  return quants && quants.bytes() <= caps.max_binding_bytes &&
         (!matrices.begin()->scales || (scales && scales.bytes() <= caps.max_binding_bytes));
}

}  // namespace

std::string fused_layer_refusal(const gpu::Caps& caps, const Weight& output, const Weight& gate_up,
                                const Weight& down) {
  if (caps.max_storage_buffers < FusedLayer::storage_buffers)
    return fmt::format("{} has {} storage buffers a kernel, it takes {}", caps.name,
                       caps.max_storage_buffers, FusedLayer::storage_buffers);
  if (caps.min_subgroup_size < 4)
    return fmt::format("{} has no subgroups, which it takes", caps.name);
  for (const auto& [name, w] :
       {std::pair("output", &output), {"gate and up", &gate_up}, {"down", &down}}) {
    if (!takes(caps, *w))
      return fmt::format(
          "the {} weights are {} [{}, {}]; it takes f16, bf16, q8_0, q4_0, q4_k, q5_k and q6_k, "
          "columns in 64s, whole rows and no tiles of them, at most {} bytes",
          name, to_string(w->type), w->rows, w->cols, caps.max_binding_bytes);
    if (w->type != output.type && !(w == &down && is_q6_k_beside(output.type, w->type)))
      return fmt::format(
          "the {} weights are {} beside an output of {}; it takes one type, and down weights of "
          "q6_k beside q4_k and q5_k",
          name, to_string(w->type), to_string(output.type));
  }
  if (!lie_together(caps, {output, gate_up, down}))
    return fmt::format("a layer's weights are not in one buffer, of at most {} bytes",
                       caps.max_binding_bytes);
  return "";
}

bool suits_fused_layer(const gpu::Caps& caps, const Weight& output, const Weight& gate_up,
                       const Weight& down, const Weight& qkv, const Weight& v) {
  if (!takes(caps, qkv) || qkv.type != output.type) return false;
  if (v && !(takes(caps, v) && is_q6_k_beside(qkv.type, v.type) && v.cols == qkv.cols &&
             qkv.rows % 2 == 0))
    return false;
  return lie_together(caps, {output, gate_up, down, qkv, v});
}

gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& a) {
  FusedLayer::Overrides over;
  over.parts = bool(a.parts);
  over.weight_type = uint32_t(a.output.type);
  over.down_q6_k = is_q6_k_beside(a.output.type, a.down.type);
  over.v_q6_k = a.v_weight && is_q6_k_beside(a.output.type, a.v_weight.type);
  if (a.parts) over.f16_parts = a.parts.f16, over.head_dim = a.parts.head_dim;
  over.halves = std::max({a.down.rows, a.down.cols, a.output.cols, 256u}) / 16;
  over.workgroup_size = std::min(512u, std::bit_floor(caps.max_invocations));
  return fused_layer(caps, a, over);
}

gpu::Work fused_layer(const gpu::Caps& caps, const FusedLayer& a, FusedLayer::Overrides over) {
  gpu::check(fused_layer_kernel, over);
  const uint32_t dim = a.down.rows, ffn = a.down.cols, heads_dim = a.output.cols,
                 qkv_rows = a.qkv_weight.rows + a.v_weight.rows;
  const std::string why = fused_layer_refusal(caps, a.output, a.gate_up, a.down);
  require(why.empty(), "fused_layer: {}", why);
  require(
      !a.qkv_weight || suits_fused_layer(caps, a.output, a.gate_up, a.down, a.qkv_weight),
      "fused_layer: qkv_weight is {} [{}, {}]; it takes what it takes as the output's, {} here, in "
      "the same buffer",
      to_string(a.qkv_weight.type), a.qkv_weight.rows, a.qkv_weight.cols, to_string(a.output.type));
  require(
      !a.v_weight || suits_fused_layer(caps, a.output, a.gate_up, a.down, a.qkv_weight, a.v_weight),
      "fused_layer: v_weight is {} [{}, {}] beside {} of [{}, {}]; it takes q6_k beside q4_k "
      "and q5_k, of an even number of rows, in the same buffer",
      to_string(a.v_weight.type), a.v_weight.rows, a.v_weight.cols, to_string(a.qkv_weight.type),
      a.qkv_weight.rows, a.qkv_weight.cols);
  require(over.v_q6_k == bool(a.v_weight) && (a.qkv_weight || !a.v_weight),
          "fused_layer: V_Q6_K is {}, v_weight [{}, {}] behind {} rows", over.v_q6_k,
          a.v_weight.rows, a.v_weight.cols, a.qkv_weight.rows);
  require(over.weight_type == uint32_t(a.output.type) &&
              over.down_q6_k == (a.down.type != a.output.type),
          "fused_layer: WEIGHT_TYPE is {} and DOWN_Q6_K {}, the output's weights are {}, the down "
          "ones {}",
          over.weight_type, over.down_q6_k, to_string(a.output.type), to_string(a.down.type));
  for (const auto& [name, w, rows, cols] :
       {std::tuple("output", &a.output, dim, heads_dim),
        {"gate_up", &a.gate_up, 2 * ffn, dim},
        {"down", &a.down, dim, ffn},
        {"qkv_weight", &a.qkv_weight, a.qkv_weight.rows, dim}}) {
    if (!*w && w == &a.qkv_weight) continue;
    require(w->rows == rows && w->cols == cols, "fused_layer: {} is [{}, {}], want [{}, {}]", name,
            w->rows, w->cols, rows, cols);
  }
  require(over.parts == bool(a.parts), "fused_layer: PARTS is {}, parts are {}", over.parts,
          a.parts.words);
  if (a.parts) {
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
  require(a.x.size() == dim && a.norm.size() == dim, "fused_layer: x is {}, norm {}; D has {} rows",
          a.x, a.norm, dim);
  require(bool(a.qkv_weight) == bool(a.next_norm) && bool(a.qkv_weight) == bool(a.qkv) &&
              (!a.qkv_weight || (a.next_norm.size() == dim && a.qkv.size() == qkv_rows)),
          "fused_layer: next_norm is {}, qkv {}, qkv_weight [{}, {}]: all three or none",
          a.next_norm, a.qkv, qkv_rows, a.qkv_weight.cols);
  require(a.exchange.type == gpu::Type::u32 &&
              a.exchange.size() == FusedLayer::exchange_words(dim, ffn),
          "fused_layer: exchange is {}, want {} words", a.exchange,
          FusedLayer::exchange_words(dim, ffn));
  require(a.slots.size() >= sizeof(Slot) / 4, "fused_layer: slots are {}, want one", a.slots);
  require(16 * over.halves >= std::max({dim, ffn, heads_dim}),
          "fused_layer: HALVES {} are {} elements; vectors have {}, {} and {}", over.halves,
          16 * over.halves, heads_dim, dim, ffn);
  const std::initializer_list<Weight> matrices = {a.output, a.gate_up, a.down, a.qkv_weight,
                                                  a.v_weight};
  const gpu::View quants = spanning(matrices, &Weight::quants),
                  scales = spanning(matrices, &Weight::scales);
  const auto first_unit = [&](const Weight& w) {
    return w ? uint32_t((w.quants.offset - quants.offset) / 16) : 0;
  };
  const auto first_scale = [&](const Weight& w) {
    return w.scales ? uint32_t((w.scales.offset - scales.offset) / 4) : 0;
  };
  const uint32_t groups = a.groups ? a.groups : choose_groups(caps);
  const uint32_t own_rows = (dim / 16 + groups - 1) / groups * 16;
  require(own_rows <= over.workgroup_size && groups < 65536,
          "fused_layer: {} workgroups have {} rows of {} each, at most WORKGROUP_SIZE {}", groups,
          own_rows, dim, over.workgroup_size);
  const uint64_t bytes = workgroup_bytes(over);
  require(over.workgroup_size <= caps.max_invocations && bytes <= caps.max_workgroup_bytes,
          "fused_layer: {} lanes and {} bytes a workgroup; {} has {} and {}", over.workgroup_size,
          bytes, caps.name, caps.max_invocations, caps.max_workgroup_bytes);
  return gpu::Dispatch{.kernel = &fused_layer_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.parts ? a.parts.words : a.attended, a.x, a.norm, a.next_norm,
                                    quants, scales, a.exchange, a.qkv, a.slots},
                       .params = gpu::bytes(FusedLayer::Params{dim,
                                                               heads_dim,
                                                               ffn,
                                                               qkv_rows,
                                                               a.alpha,
                                                               uint32_t(a.activation),
                                                               a.eps,
                                                               a.parts.splits,
                                                               patience(caps),
                                                               first_unit(a.output),
                                                               first_scale(a.output),
                                                               first_unit(a.gate_up),
                                                               first_scale(a.gate_up),
                                                               first_unit(a.down),
                                                               first_scale(a.down),
                                                               first_unit(a.qkv_weight),
                                                               first_scale(a.qkv_weight),
                                                               first_unit(a.v_weight),
                                                               first_scale(a.v_weight),
                                                               a.qkv_weight.rows}),
                       .grid = {groups, 1, 1}};
}

}  // namespace ms
