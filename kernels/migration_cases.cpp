// migration_cases.cpp: the inputs of each row of migration.tsv.
#include "kernels/migration_cases.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>

#include "base/quantize.hpp"
#include "kernels/kernels.hpp"
#include "kernels/room.hpp"
#include "kernels/shared/order.hpp"
#include "kernels/slot.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

using gpu::View;

// The values that a row's parameters have in one case; what a row calls by a letter is not there.
using Params = std::map<std::string_view, double>;

// What a row says a setting is; nothing for a letter or a choice.
std::optional<double> number(std::string_view text) {
  if (text == "true" || text == "false") return text == "true";
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Everything a maker of cases needs to know of its row.
struct Row {
  Lab& lab;
  const Migrated& row;
  Params params;
  bool large;

  const gpu::Caps& caps() const { return lab.caps(); }
  uint32_t size(uint32_t small, uint32_t model) const { return large ? model : small; }
  double param(std::string_view name, double otherwise = 0) const {
    const auto found = params.find(name);
    return found == params.end() ? otherwise : found->second;
  }
  bool is(std::string_view entry) const { return row.entry == entry; }

  // The kernel's defaults with the row's overrides; where the row names none, subgroups as the
  // device has them.
  template <class Args>
  typename Args::Overrides over() const {
    gpu::Constants constants = gpu::constants(typename Args::Overrides{});
    for (gpu::Constant& c : constants)
      if (c.name == "USE_SUBGROUPS" && !caps().variant.subgroups) c.value = 0;
    for (const auto& [name, value] : row.overrides) {
      const auto constant = std::ranges::find(constants, name, &gpu::Constant::name);
      require(constant != constants.end(), "{} has no override {}", row.kernel, name);
      constant->value = number(value).value();
    }
    return gpu::overrides<typename Args::Overrides>(constants);
  }
};

uint64_t ceil_div(uint64_t n, uint64_t by) { return (n + by - 1) / by; }

// One lane for each of n elements, or for each `per` of them.
std::function<gpu::Grid(Workgroup)> lanes(uint64_t n, uint64_t per = 1) {
  return [=](Workgroup size) { return gpu::fold(ceil_div(n, per * size[0])); };
}
// That many workgroups, whatever their size.
std::function<gpu::Grid(Workgroup)> groups(uint64_t x, uint64_t y = 1) {
  return [=](Workgroup) { return y == 1 ? gpu::fold(x) : gpu::Grid{uint32_t(x), uint32_t(y), 1}; };
}

Weight float_weight(Lab& lab, uint32_t rows, uint32_t cols, bool f16) {
  // Rows of whole pairs of blocks are packed as they are in a plain matrix.
  assert(cols % 64 == 0);
  const View data = f16 ? lab.random_f16({rows, cols}) : lab.random({rows, cols});
  View quants = data;
  quants.type = gpu::Type::u32;
  quants.shape = {data.bytes() / 4};
  return {.type = f16 ? WeightType::f16 : WeightType::f32,
          .rows = rows,
          .cols = cols,
          .quants = quants};
}
// The same memory, as a matrix of its elements.
View matrix(const Weight& weight) {
  View view = weight.quants;
  view.type = weight.type == WeightType::f16 ? gpu::Type::f16 : gpu::Type::f32;
  view.shape = {weight.rows, weight.cols};
  return view;
}

// A copy with memory of its own.
View copy(Lab& lab, const View& view) {
  return lab.upload(view.shape, view.type,
                    lab.device.read(*view.buffer, view.offset, (view.bytes() + 3) / 4 * 4));
}

// Random numbers in a file's blocks, as words.
View file_blocks(Lab& lab, TensorType type, uint32_t n) {
  std::vector<float> values(n);
  for (uint32_t i = 0; i < n; ++i) values[i] = std::sin(float(i * 7919 % 65536));
  std::vector<std::byte> bytes = quantize(type, values);
  bytes.resize((bytes.size() + 3) / 4 * 4);
  return lab.upload({bytes.size() / 4}, gpu::Type::u32, bytes);
}

// Outputs: the new kernel's memory, and as much for the old one.
OldBinding output(Lab& lab, std::vector<std::string_view> names, const View& view,
                  int correction = 0) {
  return {std::move(names), lab.output(view.shape, view.type), view, correction};
}
OldBinding in_place(Lab& lab, std::vector<std::string_view> names, const View& view,
                    int correction = 0) {
  return {std::move(names), copy(lab, view), view, correction};
}

// Attention

struct Attention {
  uint32_t rows, kv_len, heads, kv_heads, head_dim;
  View q, out;
  KvCache cache;
  float scale;
};

Attention attention(const Row& r, uint32_t rows, uint32_t kv_len, bool f16) {
  Attention a{rows, kv_len, r.size(4, 32), r.size(2, 8), r.size(64, 128), {}, {}, {}, 0};
  if (r.row.file == "attention.wgsl" || r.row.entry == "main_multihead") a.head_dim = 64;
  const auto tensor = [&](uint32_t n, uint32_t heads) {
    return r.lab.random({n, heads, a.head_dim}, -2, 2);
  };
  const auto cached = [&] {
    return f16 ? r.lab.random_f16({kv_len, a.kv_heads, a.head_dim}, -2, 2)
               : tensor(kv_len, a.kv_heads);
  };
  a.q = tensor(rows, a.heads);
  a.cache = {.k = cached(), .v = cached()};
  a.out = r.lab.output(a.q.shape);
  a.scale = 1 / std::sqrt(float(a.head_dim));
  return a;
}

MigrationCase attention_case(const Row& r, const Attention& a, gpu::Work work,
                             std::function<gpu::Grid(Workgroup)> grid) {
  MigrationCase c{.setting = {}, .work = std::move(work), .tolerance = {2e-6, 5e-5}};
  c.bindings = {{{"Q"}, a.q},
                {{"K", "K_cache"}, a.cache.k},
                {{"V", "V_cache"}, a.cache.v},
                output(r.lab, {"output"}, a.out),
                {{"kv_len_buffer"}, r.lab.words({1}, [&](size_t) { return a.kv_len; })},
                {{"page_table"}, r.lab.words({1}, [](size_t) { return 0u; })}};
  c.fields = {
      {{"num_heads"}, double(a.heads)},
      {{"num_kv_heads"}, double(a.kv_heads)},
      {{"head_dim"}, double(a.head_dim)},
      {{"seq_len"}, double(a.rows), "kv_len"},
      {{"seq_len", "kv_len"}, double(a.kv_len)},
      {{"query_len"}, double(a.rows)},
      {{"scale"}, a.scale},
      {{"is_causal", "causal"}, 1},
      {{"start_pos"}, double(a.kv_len - a.rows)},
      {{"attn_softcap", "sliding_window", "kv_len_source", "kv_start", "page_size", "kv_layout"},
       0}};
  c.grid = std::move(grid);
  return c;
}

MigrationCase attention_prefill_case(const Row& r) {
  const auto over = r.over<AttentionPrefill>();
  const uint32_t rows = uint32_t(r.param("query_len", r.size(40, 512)));
  const Attention a = attention(r, rows, r.size(70, rows == 1 ? 4096 : 512), over.f16_kv);
  const uint64_t heads = a.heads;
  return attention_case(
      r, a,
      attention_prefill(r.caps(),
                        {.q = a.q,
                         .cache = a.cache,
                         .out = a.out,
                         .step = {.start_pos = a.kv_len - rows},
                         .kv_len = a.kv_len,
                         .scale = a.scale},
                        over),
      r.is("attention_decode") ? groups(heads) : [=](Workgroup size) {
        return gpu::fold(ceil_div(rows, size[0]) * heads);
      });
}

MigrationCase attention_decode_case(const Row& r) {
  const auto over = r.over<AttentionDecode>();
  const Attention a = attention(r, 1, r.size(300, 2048), over.f16_kv);
  auto c = attention_case(
      r, a,
      attention_decode(
          r.caps(),
          {.q = a.q, .cache = a.cache, .out = a.out, .kv_len = a.kv_len, .scale = a.scale}, over),
      groups(ceil_div(a.heads, over.multihead ? 4 : 1)));
  return c;
}

MigrationCase attention_streaming_case(const Row& r) {
  const auto over = r.over<AttentionStreaming>();
  const Attention a = attention(r, r.size(7, 64), r.size(70, 512), over.f16_kv);
  return attention_case(r, a,
                        attention_streaming(r.caps(),
                                            {.q = a.q,
                                             .cache = a.cache,
                                             .out = a.out,
                                             .step = {.start_pos = a.kv_len - a.rows},
                                             .kv_len = a.kv_len,
                                             .scale = a.scale},
                                            over),
                        groups(uint64_t(a.rows) * a.heads));
}

// Activations

MigrationCase silu_case(const Row& r) {
  const uint32_t rows = 3, dim = r.size(340, 1 << 20);
  const auto layout = GateLayout(uint32_t(r.param("layout")));
  const bool separate = layout == GateLayout::separate, inplace = r.param("inplace") != 0;
  const auto x = [&](uint32_t cols) { return r.lab.random({rows, cols}, -8, 8); };
  Silu args{.y = inplace ? x(dim) : r.lab.output({rows, dim}), .layout = layout};
  if (!inplace) args.input = x(separate ? dim : 2 * dim);
  if (r.param("has_gate") && separate) args.gate = x(dim);
  if (r.param("has_bias")) args.bias = r.lab.random({dim});
  const double size = double(args.y.size());
  const bool counts_inputs = layout == GateLayout::interleaved || layout == GateLayout::split;
  const bool row_split = layout == GateLayout::row_split;
  MigrationCase c{.setting = {}, .work = silu(r.caps(), args, r.over<Silu>())};
  c.bindings = {{{"input"}, args.input},
                inplace ? in_place(r.lab, {"output"}, args.y)
                        : output(r.lab, {"output"}, args.y, args.bias ? 8 : 0),
                {{"gate"}, args.gate},
                {{"bias"}, args.bias}};
  c.fields = {{{"size"}, counts_inputs ? 2 * size : size},
              {{"has_gate"}, r.param("has_gate")},
              {{"has_bias"}, row_split ? double(dim) : r.param("has_bias")},
              {{"rowsplit_dim"}, double(dim)},
              {{"clamp_max"}, 0}};
  c.grid = lanes(args.y.size());
  return c;
}

MigrationCase gelu_case(const Row& r) {
  const uint32_t rows = 3, dim = r.size(340, 1 << 20);
  const auto layout = GateLayout(uint32_t(r.param("layout")));
  const bool separate = layout == GateLayout::separate;
  const auto x = [&](uint32_t cols) { return r.lab.random({rows, cols}, -8, 8); };
  Gelu args{.input = x(separate ? dim : 2 * dim), .y = r.lab.output({rows, dim}), .layout = layout};
  if (r.param("has_gate") && separate) args.gate = x(dim);
  MigrationCase c{.setting = {}, .work = gelu(r.caps(), args, r.over<Gelu>())};
  c.bindings = {{{"input"}, args.input}, output(r.lab, {"output"}, args.y), {{"gate"}, args.gate}};
  c.fields = {{{"size"}, double(args.y.size())},
              {{"has_gate"}, r.param("has_gate")},
              {{"has_bias"}, separate ? 0.0 : double(dim)},
              {{"rowsplit_dim"}, double(dim)},
              {{"clamp_max"}, 0}};
  c.grid = lanes(args.y.size());
  return c;
}

MigrationCase relu_case(const Row& r) {
  const uint32_t n = r.size(1021, 1 << 22);
  const Relu args{
      .x = r.lab.random({n}), .y = r.lab.output({n}), .leaky_alpha = float(r.param("leaky_alpha"))};
  MigrationCase c{.setting = {}, .work = relu(r.caps(), args, r.over<Relu>())};
  c.bindings = {{{"input"}, args.x}, output(r.lab, {"output"}, args.y)};
  c.fields = {{{"size"}, double(n)}, {{"has_bias", "has_gate", "rowsplit_dim", "clamp_max"}, 0}};
  c.grid = lanes(n);
  return c;
}

MigrationCase fused_swiglu_case(const Row& r) {
  const uint32_t rows = r.size(5, 1024), dim = r.size(130, 8192);
  const FusedSwiglu args{.input = r.lab.random({rows, 2 * dim}, -8, 8),
                         .bias = r.lab.random({2 * dim}),
                         .y = r.lab.output({rows, dim})};
  MigrationCase c{.setting = {}, .work = fused_swiglu(r.caps(), args, r.over<FusedSwiglu>())};
  c.bindings = {{{"input"}, args.input}, {{"bias"}, args.bias}, output(r.lab, {"output"}, args.y)};
  c.fields = {
      {{"num_tokens"}, double(rows)}, {{"dim"}, double(dim)}, {{"bias_offset", "clamp_max"}, 0}};
  c.grid = lanes(args.y.size());
  return c;
}

// RoPE

MigrationCase rope_compute_case(const Row& r) {
  const uint32_t rows = r.size(5, 512), heads = r.size(3, 32), dim = r.size(16, 128), start = 2;
  const auto mode = RopeScaling::Mode(uint32_t(r.param("scaling_mode")));
  const bool fused_qk = r.param("fused_qk") != 0;
  const RopeCompute args{.x = r.lab.random({rows, heads, fused_qk ? 2 * dim : dim}),
                         .scaling = {.mode = mode, .factor = 2, .original_context = 64},
                         .start_pos = start,
                         .interleaved = false,
                         .fused_qk = fused_qk};
  MigrationCase c{.setting = {}, .work = rope_compute(r.caps(), args, r.over<RopeCompute>())};
  c.tolerance = {1e-6 * (rows + start), 0};  // as rope_init's
  c.bindings = {in_place(r.lab, {"input"}, args.x, mode == RopeScaling::Mode::yarn ? 3 : 0),
                {{"freqs_cos"}, r.lab.output({1})},
                {{"freqs_sin"}, r.lab.output({1})}};
  c.fields = {{{"seq_len"}, double(rows)}, {{"num_heads"}, double(heads)},
              {{"head_dim"}, double(dim)}, {{"start_pos"}, double(start)},
              {{"rope_base"}, args.base},  {{"rope_scale"}, args.scaling.factor}};
  c.grid = lanes(args.x.size() / 2);
  return c;
}

MigrationCase rope_precomputed_case(const Row& r) {
  const uint32_t rows = r.size(5, 512), heads = r.size(3, 32), dim = r.size(16, 128), start = 2,
                 tables = rows + start;
  RopePrecomputed args{.cos = r.lab.random({tables, dim / 2}),
                       .sin = r.lab.random({tables, dim / 2}),
                       .x = r.lab.random({rows, heads, dim}),
                       .step = {.start_pos = start},
                       .interleaved = false};
  MigrationCase c{.setting = {},
                  .work = rope_precomputed(r.caps(), args, r.over<RopePrecomputed>())};
  c.bindings = {
      in_place(r.lab, {"input"}, args.x), {{"freqs_cos"}, args.cos}, {{"freqs_sin"}, args.sin}};
  c.fields = {{{"seq_len"}, double(rows)}, {{"num_heads"}, double(heads)},
              {{"head_dim"}, double(dim)}, {{"start_pos"}, double(start)},
              {{"rope_base"}, 10000},      {{"rope_scale"}, 1}};
  c.grid = lanes(args.x.size() / 2);
  return c;
}

MigrationCase rope_init_case(const Row& r) {
  const uint32_t rows = r.size(40, 8192), dim = r.size(16, 128);
  const auto frequencies = rope_frequencies({}, dim, 10000);
  const RopeInit args{.freqs = r.lab.words({dim / 2, 2}, [&](size_t i) { return frequencies[i]; }),
                      .cos = r.lab.output({rows, dim / 2}),
                      .sin = r.lab.output({rows, dim / 2})};
  MigrationCase c{.setting = {}, .work = rope_init(r.caps(), args, r.over<RopeInit>())};
  // The old one multiplies angles in f32: they are off by 1e-7 of the position.
  c.tolerance = {1e-6 * rows, 0};
  c.bindings = {{{"input"}, r.lab.output({1})},
                output(r.lab, {"freqs_cos"}, args.cos),
                output(r.lab, {"freqs_sin"}, args.sin)};
  c.fields = {{{"seq_len"}, double(rows)}, {{"num_heads"}, 1},     {{"head_dim"}, double(dim)},
              {{"start_pos"}, 0},          {{"rope_base"}, 10000}, {{"rope_scale"}, 1}};
  c.grid = lanes(args.cos.size());
  return c;
}

// Sampling

std::vector<OldField> sampling_fields(uint32_t vocab, uint32_t top_k) {
  return {{{"vocab_size"}, double(vocab)},
          {{"top_k"}, double(top_k)},
          {{"temperature"}, 1},
          {{"random_value"}, 0.5},
          {{"pad_token_id"}, 4294967295.0},
          {{"logit_softcap", "output_index"}, 0}};
}

MigrationCase sample_argmax_case(const Row& r) {
  const auto over = r.over<SampleArgmax>();
  // One workgroup of the old entry, which gives one candidate; four are reduced.
  const uint32_t vocab = over.is_reduce_phase ? 1024 : over.single_pass ? 5000 : 200;
  SampleArgmax args{.logits = r.lab.random({1, r.large ? 128'256 : vocab}, -20, 20),
                    .sampled = r.lab.output({1}, gpu::Type::u32),
                    .best_logit = r.lab.output({1})};
  MigrationCase c;
  c.tolerance = exact;
  const float candidates[] = {3.5f, 9.25f, -2, 8.5f};
  const uint32_t ids[] = {17, 300, 700, 900};
  if (over.is_reduce_phase) {
    args.partials = r.lab.words(
        {1, 4, 2}, [&](size_t i) { return i % 2 ? ids[i / 2] : key_of(candidates[i / 2]); });
    c.bindings = {{{"topk_indices"}, r.lab.words({4}, [&](size_t i) { return ids[i]; })},
                  {{"topk_logits"}, r.lab.values({4}, [&](size_t i) { return candidates[i]; })},
                  output(r.lab, {"output"}, args.sampled)};
  } else if (over.single_pass) {
    c.bindings = {output(r.lab, {"output"}, args.sampled),
                  {{"topk_indices"}, r.lab.output({256}, gpu::Type::u32)},
                  {{"topk_logits"}, r.lab.output({256})}};
  } else {
    c.bindings = {{{"output"}, r.lab.output({1}, gpu::Type::u32)},
                  output(r.lab, {"topk_indices"}, args.sampled),
                  output(r.lab, {"topk_logits"}, args.best_logit)};
  }
  c.work = sample_argmax(r.caps(), args, over);
  c.bindings.push_back({{"logits"}, args.logits});
  c.fields = sampling_fields(vocab, 1);
  c.grid = groups(1);
  return c;
}

MigrationCase sample_topk_case(const Row& r) {
  const uint32_t vocab = r.size(2000, 128'256), k = 8;
  const auto over = r.over<SampleTopk>();
  const View logits = r.lab.random({1, vocab}, -20, 20);
  const auto values = r.lab.read(logits);
  std::vector<uint32_t> ids(vocab);  // the best k first
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::partial_sort(ids, ids.begin() + k, std::greater(),
                            [&](uint32_t id) { return values[id]; });
  MigrationCase c;
  c.tolerance = exact;
  c.fields = sampling_fields(vocab, k);
  if (r.param("phase") < 2) {
    const TopkLists args{.logits = logits,
                         .topk_indices = r.lab.output({1, k}, gpu::Type::u32),
                         .topk_logits = r.lab.output({1, k})};
    c.work = topk_lists(r.caps(), args, over);
    c.bindings = {{{"logits"}, logits}, {{"output"}, r.lab.output({1}, gpu::Type::u32)}};
    if (r.param("phase") == 0) {
      c.bindings.push_back(output(r.lab, {"topk_indices"}, args.topk_indices, 1));
      c.bindings.push_back(output(r.lab, {"topk_logits"}, args.topk_logits, 1));
      c.grid = groups(ceil_div(vocab, 256));
    } else {  // sorts in place what phase 0 should have found; here the lowest comes first
      const auto candidate = [&](size_t i) { return ids[k - 1 - i]; };
      c.bindings.push_back({{"topk_indices"}, r.lab.words({1, k}, candidate), args.topk_indices});
      c.bindings.push_back({{"topk_logits"},
                            r.lab.values({1, k}, [&](size_t i) { return values[candidate(i)]; }),
                            args.topk_logits});
      c.grid = groups(1);
    }
    return c;
  }
  // A draw from one candidate: the random numbers of old and new differ.
  const Slot slot{.stopped = Stopped::running, .temperature = 1, .top_k = 1};
  const SampleTopk args{
      .slots = r.lab.upload({1, 32}, gpu::Type::u32, std::as_bytes(std::span(&slot, 1))),
      .logits = logits,
      .sampled = r.lab.output({1}, gpu::Type::u32)};
  c.work = sample_topk(r.caps(), args, over);
  c.fields = sampling_fields(vocab, 1);
  c.bindings = {{{"logits"}, logits},
                output(r.lab, {"output"}, args.sampled),
                {{"topk_indices"}, r.lab.words({1}, [&](size_t) { return ids[0]; })},
                {{"topk_logits"}, r.lab.values({1}, [&](size_t) { return values[ids[0]]; })}};
  c.grid = groups(1);
  return c;
}

// Rows

MigrationCase softmax_case(const Row& r) {
  const auto over = r.over<Softmax>();
  const uint32_t rows = r.size(3, 4096), cols = over.small_size ? 200 : r.size(1000, 4096);
  const bool inplace = r.param("inplace") != 0;
  const View x = r.lab.random({rows, cols}, -9, 9);
  const Softmax args{.x = inplace ? View{} : x,
                     .y = inplace ? x : r.lab.output({rows, cols}),
                     .temperature = 0.7f};
  MigrationCase c{.setting = {}, .work = softmax(r.caps(), args, over)};
  c.bindings = {{{"input"}, args.x},
                inplace ? in_place(r.lab, {"output"}, args.y) : output(r.lab, {"output"}, args.y)};
  c.fields = {{{"inner_size"}, double(cols)},
              {{"outer_size"}, double(rows)},
              {{"temperature"}, double(args.temperature)}};
  c.grid = groups(rows);
  return c;
}

MigrationCase softmax_log_case(const Row& r) {
  const uint32_t rows = r.size(3, 4096), cols = r.size(1000, 4096);
  const SoftmaxLog args{
      .x = r.lab.random({rows, cols}, -9, 9), .y = r.lab.output({rows, cols}), .temperature = 0.7f};
  MigrationCase c{.setting = {}, .work = softmax_log(r.caps(), args, r.over<SoftmaxLog>())};
  c.bindings = {{{"input"}, args.x}, output(r.lab, {"output"}, args.y)};
  c.fields = {{{"inner_size"}, double(cols)},
              {{"outer_size"}, double(rows)},
              {{"temperature"}, double(args.temperature)}};
  c.grid = groups(rows);
  return c;
}

MigrationCase rmsnorm_case(const Row& r) {
  const auto over = r.over<RmsNorm>();
  const uint32_t rows = r.size(3, 4096), cols = over.small_size ? 200 : r.size(900, 4096);
  const auto has_residual = Residual(uint32_t(r.param("has_residual")));
  RmsNorm args{.x = r.lab.random({rows, cols}),
               .weight = r.lab.random({cols}, 0.5f, 1.5f),
               .y = r.lab.output({rows, cols}),
               .has_residual = has_residual,
               .eps = 1e-5f};
  if (has_residual != Residual::none) args.residual = r.lab.random({rows, cols});
  if (r.param("output_prenorm")) args.prenorm = r.lab.output({rows, cols});
  MigrationCase c{.setting = {}, .work = rmsnorm(r.caps(), args, over)};
  if (r.is("rmsnorm_small")) c.entries = {"main_small"};
  if (r.is("rmsnorm_inplace_residual")) c.entries = {"main_cached"};
  c.bindings = {{{"input"}, args.x},
                {{"weight"}, args.weight},
                output(r.lab, {"output"}, args.y, has_residual == Residual::after ? 5 : 0),
                {{"residual"}, args.residual},
                {.names = {"prenorm", "prenorm_output"},
                 .view = r.lab.output({rows, cols}),
                 .want = args.prenorm,
                 .correction = 5,
                 .unwritten = true}};
  c.fields = {{{"size"}, double(cols)},
              {{"num_tokens"}, double(rows)},
              {{"eps"}, double(args.eps)},
              {{"has_residual"}, r.param("has_residual")}};
  c.grid = groups(rows);
  return c;
}

// Products with matrices

std::vector<OldField> matmul_fields(uint32_t M, uint32_t N, uint32_t K, uint32_t groups_x = 0) {
  return {{{"M"}, double(M)}, {{"N"}, double(N)},   {{"K"}, double(K)},
          {{"alpha"}, 0.5},   {{"transpose_b"}, 1}, {{"workgroups_x"}, double(groups_x)}};
}

MigrationCase matmul_case(const Row& r) {
  const auto over = r.over<Matmul>();
  // M = N: which of them the old grid calls x does not matter then.
  const uint32_t n = r.size(72, 512), k = r.size(128, 4096);
  const bool f16 = over.f16_mode;
  const Weight b = float_weight(r.lab, n, k, f16 || over.mixed_precision);
  const Matmul args{.a = f16 ? r.lab.random_f16({n, k}) : r.lab.random({n, k}),
                    .b = b,
                    .c = r.lab.output({n, n}, f16 ? gpu::Type::f16 : gpu::Type::f32),
                    .alpha = 0.5f};
  MigrationCase c{.setting = {}, .work = matmul(r.caps(), args, over)};
  c.tolerance = f16 ? Tolerance{2e-3, 4e-3} : Tolerance{2e-5, 5e-5};
  c.bindings = {{{"A"}, args.a}, {{"B"}, matrix(b)}, output(r.lab, {"C"}, args.c)};
  c.fields = matmul_fields(n, n, k);
  c.grid = [=](Workgroup size) {
    return gpu::Grid{uint32_t(ceil_div(n, size[0])), uint32_t(ceil_div(n, size[1])), 1};
  };
  return c;
}

MigrationCase matmul_gemv_case(const Row& r) {
  const auto over = r.over<MatmulGemv>();
  const uint32_t M = over.batched ? 3 : 1, N = r.size(70, 4096), K = r.size(128, 4096);
  const Weight b = float_weight(r.lab, N, K, WeightType(over.weight_type) == WeightType::f16);
  const MatmulGemv args{
      .x = r.lab.random({M, K}), .weight = b, .y = r.lab.output({M, N}), .alpha = 0.5f};
  MigrationCase c{.setting = {}, .work = matmul_gemv(r.caps(), args, over)};
  c.tolerance = {2e-5, 5e-5};
  if (r.is("multicol")) c.entries = {"main_multicol"};
  const uint32_t columns = over.multicol ? 32 : over.use_subgroups ? 4 : 1;
  c.bindings = {{{"A"}, args.x}, {{"B"}, matrix(b)}, output(r.lab, {"C"}, args.y)};
  c.fields = matmul_fields(M, N, K, uint32_t(ceil_div(N, columns)));
  c.grid = groups(ceil_div(N, columns));
  return c;
}

MigrationCase matmul_gemv_residual_case(const Row& r) {
  const auto over = r.over<MatmulGemvResidual>();
  const uint32_t N = r.size(70, 4096), K = r.size(128, 4096);
  const bool f16 = WeightType(over.weight_type) == WeightType::f16;
  const Weight halves = float_weight(r.lab, N, K, true);
  Weight b = halves;
  if (!f16) {
    const auto values = r.lab.read(matrix(halves));
    b.type = WeightType::f32;
    b.quants = r.lab.words({N * K}, [&](size_t i) { return std::bit_cast<uint32_t>(values[i]); });
  }
  const MatmulGemvResidual args{.x = r.lab.random({1, K}),
                                .weight = b,
                                .residual = r.lab.random({1, N}),
                                .y = r.lab.output({1, N}),
                                .alpha = 0.5f};
  MigrationCase c{.setting = {}, .work = matmul_gemv_residual(r.caps(), args, over)};
  c.tolerance = {2e-5, 5e-5};
  c.bindings = {{{"A"}, args.x},
                {{"B"}, matrix(b)},
                output(r.lab, {"C"}, args.y),
                {{"residual"}, args.residual}};
  // Files read f16 whatever the entry is named.
  if (!f16) c.bindings.push_back({{"B"}, matrix(halves), {}, 5});
  c.fields = matmul_fields(1, N, K);
  c.grid = groups(N);
  return c;
}

MigrationCase fused_ffn_case(const Row& r) {
  const auto over = r.over<FusedFfn>();
  const uint32_t M = over.batched ? 3 : 1, I = r.size(70, 14336), H = r.size(128, 4096);
  // Gate and up rows by turns; the old entries have them apart.
  const Weight both = float_weight(r.lab, 2 * I, H, over.f16_weights);
  const View rows = matrix(both);
  const auto bytes = r.lab.device.read(*rows.buffer, rows.offset, rows.bytes());
  const auto half = [&](uint32_t which) {
    const size_t row = bytes.size() / (2 * I);
    std::vector<std::byte> own(I * row);
    for (size_t i = 0; i < I; ++i)
      std::copy_n(bytes.data() + (2 * i + which) * row, row, own.data() + i * row);
    return r.lab.upload({I, H}, rows.type, own);
  };
  const FusedFfn args{
      .x = r.lab.random({M, H}), .weight = both, .y = r.lab.output({M, I}), .alpha = 0.5f};
  MigrationCase c{.setting = {}, .work = fused_ffn(r.caps(), args, over)};
  c.tolerance = {1e-4, 1e-4};
  c.bindings = {{{"input"}, args.x},
                {{"W_gate"}, half(0)},
                {{"W_up"}, half(1)},
                output(r.lab, {"output"}, args.y)};
  c.fields = {{{"M"}, double(M)},
              {{"hidden_size"}, double(H)},
              {{"intermediate_size"}, double(I)},
              {{"alpha"}, double(args.alpha)},
              {{"activation", "clamp_max"}, 0}};
  c.grid = groups(ceil_div(I, over.multi_output ? 4 : 1), M);
  return c;
}

MigrationCase fused_matmul_q4_case(const Row& r) {
  const auto over = r.over<FusedMatmulQ4>();
  const uint32_t M = over.batched ? 5 : 1, N = r.size(40, 4096), K = r.size(512, 4096);
  const FusedMatmulQ4 args{.a = r.lab.random({M, K}),
                           .b = file_blocks(r.lab, TensorType::q4_k, N * K),
                           .c = r.lab.output({M, N}),
                           .alpha = 0.5f};
  MigrationCase c{.setting = {}, .work = fused_matmul_q4(r.caps(), args, over)};
  c.tolerance = {5e-5, 5e-5};
  c.bindings = {{{"A"}, args.a}, {{"B_q4k"}, args.b}, output(r.lab, {"C"}, args.c)};
  c.fields = matmul_fields(M, N, K);
  c.fields.push_back({{"num_blocks_per_row"}, K / 256.0});
  c.grid = groups(ceil_div(N, over.multicol ? 32 : 1), ceil_div(M, 4));
  return c;
}

MigrationCase fused_matmul_rmsnorm_case(const Row& r) {
  const auto over = r.over<FusedMatmulRmsNorm>();
  const uint32_t N = over.small_n ? 200 : r.size(300, 2048), K = r.size(96, 2048);
  FusedMatmulRmsNorm args{.x = r.lab.random({1, K}),
                          .weight = r.lab.random({N, K}),
                          .y = r.lab.output({1, N}),
                          .transpose_b = true,
                          .eps = 1e-5f};
  const View norm_weight = r.lab.random({N}, 0.5f, 1.5f);
  if (!over.phase1_only) args.norm_weight = norm_weight;
  MigrationCase c{.setting = {}, .work = fused_matmul_rmsnorm(r.caps(), args, over)};
  c.tolerance = {2e-5, 1e-4};
  c.bindings = {{{"input"}, args.x},
                {{"weight"}, args.weight},
                {{"norm_weight"}, norm_weight},
                output(r.lab, {"output"}, args.y, r.is("main") ? 2 : 0),
                {{"residual"}, r.lab.random({N})}};
  c.fields = {{{"N"}, double(N)},
              {{"K"}, double(K)},
              {{"eps"}, double(args.eps)},
              {{"has_residual"}, 0},
              {{"transpose_b"}, 1}};
  c.grid = groups(over.small_n || over.medium_n ? 1 : ceil_div(N, 4));
  return c;
}

// Blocks of files

template <class Args>
MigrationCase dequant_case(const Row& r,
                           gpu::Work (*wrapper)(const gpu::Caps&, const Args&,
                                                typename Args::Overrides),
                           TensorType type) {
  const auto over = r.over<Args>();
  const uint32_t block = info(type).block_size, blocks = r.size(5, (1 << 22) / block);
  const Args args{
      .quantized = file_blocks(r.lab, type, blocks * block),
      .y = r.lab.output({blocks * block}, over.f16_out ? gpu::Type::f16 : gpu::Type::f32),
      .num_blocks = blocks};
  MigrationCase c{.setting = {}, .work = wrapper(r.caps(), args, over)};
  c.tolerance = over.f16_out ? f16_storage : Tolerance{};
  const bool subgroups = r.row.file == "dequant_subgroup.wgsl";
  c.bindings = {{{"quantized"}, args.quantized},
                output(r.lab, {"output"}, args.y, subgroups ? 4 : 0)};
  // Files store f32 whatever the entry is named.
  if (over.f16_out) c.bindings.push_back({{"output"}, r.lab.output(args.y.shape), args.y, 5});
  c.grid = subgroups ? lanes(args.y.size(), r.is("main_vec4") ? 4 : 1) : groups(blocks);
  c.fields = {{{"num_blocks"}, double(blocks)},
              {{"output_offset"}, 0},
              {{"workgroups_x"}, double(gpu::fold(blocks)[0])}};
  return c;
}
MigrationCase dequant_q4k_case(const Row& r) {
  return dequant_case<DequantQ4K>(r, dequant_q4k, TensorType::q4_k);
}
MigrationCase dequant_q6k_case(const Row& r) {
  return dequant_case<DequantQ6K>(r, dequant_q6k, TensorType::q6_k);
}
MigrationCase dequant_q8_0_case(const Row& r) {
  return dequant_case<DequantQ80>(r, dequant_q8_0, TensorType::q8_0);
}

MigrationCase dequant_mxfp4_case(const Row& r) {
  const auto over = r.over<DequantMxfp4>();
  const uint32_t rows = r.size(6, 2048), cols = r.size(96, 4096), experts = over.expert ? 3 : 1;
  const uint32_t all = experts * rows * cols, total = rows * cols;
  const DequantMxfp4 args{
      .blocks = r.lab.words({all / 8}, [](size_t i) { return uint32_t(i * 2654435761u); }),
      .scales = r.lab.words({(all / 32 + 3) / 4}, [](size_t) { return 0x7f807d7eu; }),
      .y = r.lab.output({rows, cols}),
      .expert_idx = experts - 1,
      .num_experts = experts};
  MigrationCase c{.setting = {}, .work = dequant_mxfp4(r.caps(), args, over)};
  c.bindings = {
      {{"blocks"}, args.blocks}, {{"scales"}, args.scales}, output(r.lab, {"output"}, args.y)};
  c.fields = {{{"total_elements", "total_output"}, double(total)},
              {{"num_groups"}, over.expert ? cols / 32.0 : total / 32.0},
              {{"group_size"}, 32},
              {{"row_stride"}, double(cols)},
              {{"expert_idx"}, double(args.expert_idx)},
              {{"num_experts"}, double(experts)},
              {{"out_dim"}, double(rows)}};
  c.grid = lanes(total, over.use_vec4 ? 4 : 1);
  return c;
}

// Experts

MigrationCase topk_case(const Row& r) {
  const auto over = r.over<TopK>();
  const uint32_t tokens = r.size(9, 4096), experts = over.small_k ? 8 : r.size(60, 128),
                 top_k = over.small_k ? 2 : 8;
  const TopK args{.x = over.fused_softmax ? r.lab.random({tokens, experts}, -4, 4)
                                          : r.lab.random({tokens, experts}, 0, 1),
                  .indices = r.lab.output({tokens, top_k}, gpu::Type::u32),
                  .weights = r.lab.output({tokens, top_k}),
                  .softmax = over.fused_softmax,
                  .normalize = true};
  MigrationCase c{.setting = {}, .work = topk(r.caps(), args, over)};
  c.bindings = {{{"probs", "logits", "input"}, args.x},
                output(r.lab, {"out_indices"}, args.indices),
                output(r.lab, {"out_weights"}, args.weights)};
  c.fields = {{{"num_tokens"}, double(tokens)},
              {{"num_experts"}, double(experts)},
              {{"top_k"}, double(top_k)},
              {{"normalize"}, 1}};
  c.grid = over.small_k ? lanes(tokens) : groups(tokens);
  return c;
}

// Which experts the tokens have: never one twice.
View expert_choice(Lab& lab, uint32_t tokens, uint32_t top_k, uint32_t experts) {
  return lab.words({tokens, top_k},
                   [=](size_t i) { return uint32_t((i / top_k * 7 + i % top_k * 3) % experts); });
}

MigrationCase moe_gather_case(const Row& r) {
  const auto over = r.over<MoeGather>();
  const uint32_t tokens = r.size(9, 512), hidden = r.size(36, 2048), experts = r.size(7, 128),
                 top_k = 2, rows = experts * tokens;
  const MoeGather args{.hidden = r.lab.random({tokens, hidden}),
                       .expert_indices = expert_choice(r.lab, tokens, top_k, experts),
                       .gathered = r.lab.output({experts, tokens, hidden}),
                       .token_counts = r.lab.output({experts}, gpu::Type::u32),
                       .token_map = r.lab.output({rows, 2}, gpu::Type::u32),
                       .token_offsets = r.lab.output({tokens, top_k}, gpu::Type::u32),
                       .row_experts = r.lab.output({rows}, gpu::Type::u32),
                       .max_tokens_per_expert = tokens};
  const bool gathers = r.is("gather_tokens") || r.is("gather_tokens_vec4"),
             vec4 = r.is("gather_tokens_vec4");
  MigrationCase c;
  if (gathers) c.work = moe_gather(r.caps(), args, "count_and_map", over);
  c.work += moe_gather(r.caps(), args, r.row.entry, over);
  c.tolerance = exact;
  c.bindings = {{{"hidden_states"}, args.hidden}, {{"expert_indices"}, args.expert_indices}};
  const View zeros = r.lab.words({experts}, [](size_t) { return 0u; });
  const OldBinding gathered = output(r.lab, {"gathered"}, args.gathered);
  if (gathers) {
    c.bindings.insert(
        c.bindings.end(),
        {gathered, {{"token_counts"}, args.token_counts}, {{"token_map"}, args.token_map}});
  } else {
    c.bindings.push_back({{"token_counts"}, zeros, args.token_counts});
    c.bindings.push_back(
        output(r.lab, {"token_map"}, args.token_map, r.is("count_and_map") ? 8 : 0));
    c.bindings.push_back(r.is("gather_single_pass") ? gathered
                                                    : OldBinding{{"gathered"}, gathered.view});
  }
  c.fields = {{{"num_tokens"}, double(tokens)},
              {{"hidden_size"}, double(hidden)},
              {{"num_experts"}, double(experts)},
              {{"top_k"}, double(top_k)},
              {{"max_tokens_per_expert"}, double(tokens)},
              {{"threads_per_row"}, vec4 ? hidden / 4.0 : double(hidden)}};
  c.grid = gathers                      ? lanes(uint64_t(rows) * hidden, vec4 ? 4 : 1)
           : r.is("gather_single_pass") ? groups(experts)
                                        : lanes(uint64_t(tokens) * top_k);
  return c;
}

MigrationCase scatter_add_case(const Row& r) {
  const auto over = r.over<ScatterAdd>();
  const uint32_t tokens = r.size(9, 512), hidden = r.size(36, 2048), experts = r.size(7, 64),
                 top_k = 2;
  const bool accumulate = r.param("accumulate") != 0;
  ScatterAdd args{
      .expert_outputs = {},
      .weights = r.lab.random({tokens, top_k}, 0, 1),
      .output = accumulate ? r.lab.random({tokens, hidden}) : r.lab.output({tokens, hidden}),
      .accumulate = accumulate};
  const View indices = expert_choice(r.lab, tokens, top_k, experts);
  if (over.dynamic_layout) {
    args.expert_outputs = r.lab.random({tokens * top_k, hidden});
    args.token_offsets = r.lab.words(
        {tokens, top_k}, [=](size_t i) { return uint32_t((i * 5 + 3) % (tokens * top_k)); });
  } else {
    args.expert_outputs = r.lab.random({experts, tokens, hidden});
    args.indices = indices;
  }
  MigrationCase c{.setting = {}, .work = scatter_add(r.caps(), args, over)};
  c.bindings = {{{"expert_outputs"}, args.expert_outputs},
                {{"indices"}, indices},
                {{"weights"}, args.weights},
                {{"token_offsets"}, args.token_offsets},
                accumulate ? in_place(r.lab, {"output"}, args.output)
                           : output(r.lab, {"output"}, args.output)};
  c.fields = {{{"num_tokens"}, double(tokens)},
              {{"hidden_size"}, double(hidden)},
              {{"top_k"}, double(top_k)},
              {{"num_experts"}, double(experts)}};
  c.grid = lanes(args.output.size(), over.use_vec4 ? 4 : 1);
  return c;
}

// Small things

MigrationCase bias_add_case(const Row& r) {
  const uint32_t rows = r.size(5, 4096), dim = r.size(130, 4096);
  const BiasAdd args{.bias = r.lab.random({dim}), .data = r.lab.random({rows, dim})};
  MigrationCase c{.setting = {}, .work = bias_add(r.caps(), args, r.over<BiasAdd>())};
  c.bindings = {in_place(r.lab, {"data"}, args.data), {{"bias"}, args.bias}};
  c.fields = {
      {{"num_tokens"}, double(rows)}, {{"dim"}, double(dim)}, {{"data_offset", "bias_offset"}, 0}};
  c.grid = lanes(args.data.size());
  return c;
}

// Conversions: of x to y; the old uniforms count elements by either name.
MigrationCase conversion_case(const Row& r, gpu::Work work, const View& x, const View& y,
                              uint32_t per_lane) {
  MigrationCase c{.setting = {}, .work = std::move(work)};
  c.tolerance = y.type == gpu::Type::f16 ? f16_storage : exact;
  c.bindings = {{{"input"}, x}, output(r.lab, {"output"}, y)};
  c.fields = {{{"size", "num_elements"}, double(y.size())}, {{"input_offset", "output_offset"}, 0}};
  c.grid = lanes(y.size(), per_lane);
  return c;
}
MigrationCase cast_f32_to_f16_case(const Row& r) {
  const uint32_t n = r.size(1021, 1 << 22);
  const CastF32ToF16 args{.x = r.lab.random({n}, -9, 9), .y = r.lab.output({n}, gpu::Type::f16)};
  return conversion_case(r, cast_f32_to_f16(r.caps(), args, r.over<CastF32ToF16>()), args.x, args.y,
                         1);
}
// Random numbers as bf16, two a word.
View bf16_pairs(Lab& lab, uint32_t n) {
  return lab.words({(n + 1) / 2}, [](size_t i) {
    return 0x3f003f80u ^ (uint32_t(i * 2654435761u) & 0x80ff80ffu);
  });
}
MigrationCase bf16_to_f32_case(const Row& r) {
  const uint32_t n = r.size(1022, 1 << 22);
  const auto over = r.over<Bf16ToF32>();
  const Bf16ToF32 args{.x = bf16_pairs(r.lab, n), .y = r.lab.output({n})};
  return conversion_case(r, bf16_to_f32(r.caps(), args, over), args.x, args.y, over.single ? 1 : 2);
}
MigrationCase bf16_to_f16_case(const Row& r) {
  const uint32_t n = r.size(1022, 1 << 22);
  const Bf16ToF16 args{.x = bf16_pairs(r.lab, n), .y = r.lab.output({n}, gpu::Type::f16)};
  return conversion_case(r, bf16_to_f16(r.caps(), args, r.over<Bf16ToF16>()), args.x, args.y, 2);
}

MigrationCase gather_case(const Row& r) {
  const auto over = r.over<Gather>();
  const uint32_t tokens = r.size(9, 4096), hidden = r.size(64, 4096), vocab = r.size(50, 32'000);
  const Weight table = float_weight(r.lab, vocab, hidden, over.f16_embeddings);
  const Gather args{
      // the last id is outside the vocabulary
      .indices = r.lab.words({tokens},
                             [&](size_t i) { return uint32_t((i * 7919 + vocab) % (vocab + 1)); }),
      .table = table,
      .y = r.lab.output({tokens, hidden})};
  MigrationCase c{.setting = {}, .work = gather(r.caps(), args, over), .tolerance = exact};
  c.bindings = {{{"indices"}, args.indices},
                {{"embeddings"}, matrix(table)},
                output(r.lab, {"output"}, args.y)};
  c.fields = {{{"num_tokens"}, double(tokens)},
              {{"hidden_size"}, double(hidden)},
              {{"vocab_size"}, double(vocab)},
              {{"transpose", "index_offset"}, 0}};
  c.grid = lanes(args.y.size(), over.use_vec4 ? 4 : 1);
  return c;
}

MigrationCase residual_case(const Row& r) {
  const uint32_t n = r.size(1021, 1 << 22);
  const bool inplace = r.param("inplace") != 0;
  AddResidual args{.b = r.lab.random({n}),
                   .y = inplace ? r.lab.random({n}) : r.lab.output({n}),
                   .scale = float(r.param("scale", 1.5))};  // "s"
  if (!inplace) args.a = r.lab.random({n});
  MigrationCase c{.setting = {}, .work = residual(r.caps(), args, r.over<AddResidual>())};
  c.bindings = {{{"a"}, args.a},
                {{"b"}, args.b},
                inplace ? in_place(r.lab, {"output"}, args.y) : output(r.lab, {"output"}, args.y)};
  c.fields = {{{"size"}, double(n)}, {{"scale"}, double(args.scale)}};
  c.grid = lanes(n);
  return c;
}

MigrationCase scale_case(const Row& r) {
  const uint32_t n = r.size(1021, 1 << 22);
  const bool inplace = r.param("inplace") != 0;
  Scale args{.y = inplace ? r.lab.random({n}) : r.lab.output({n}), .scale = 0.75f};
  if (!inplace) args.x = r.lab.random({n});
  MigrationCase c{.setting = {}, .work = scale(r.caps(), args, r.over<Scale>())};
  if (r.is("main_inplace")) c.entries = {"scale_inplace"};
  c.bindings = {{{"input"}, args.x},
                inplace ? in_place(r.lab, {"output"}, args.y) : output(r.lab, {"output"}, args.y)};
  c.fields = {{{"count", "size"}, double(n)}, {{"scale"}, 0.75}};
  c.grid = lanes(n);
  return c;
}

MigrationCase split_qkv_case(const Row& r) {
  const auto over = r.over<SplitQkv>();
  const uint32_t rows = r.size(5, 512), q = r.size(64, 4096), kv = r.size(32, 1024);
  const gpu::Type type = over.f16_out ? gpu::Type::f16 : gpu::Type::f32;
  const SplitQkv args{.qkv = r.lab.random({rows, q + 2 * kv}),
                      .q = r.lab.output({rows, q}),
                      .cache = {.k = r.lab.output({rows, kv}, type),
                                .v = r.lab.output({rows, kv}, type),
                                .layout = KvLayout::plain}};
  MigrationCase c{.setting = {}, .work = split_qkv(r.caps(), args, over)};
  c.tolerance = over.f16_out ? f16_storage : exact;
  c.bindings = {{{"input"}, args.qkv},
                output(r.lab, {"Q"}, args.q),
                output(r.lab, {"K"}, args.cache.k),
                output(r.lab, {"V"}, args.cache.v)};
  if (over.f16_out)  // the old entry does nothing
    for (OldBinding& b : c.bindings) b.correction = 6, b.unwritten = true;
  c.fields = {{{"numTokens", "num_tokens"}, double(rows)},
              {{"qSize", "q_size"}, double(q)},
              {{"kSize", "k_size", "vSize", "v_size"}, double(kv)}};
  c.grid = lanes(args.qkv.size());
  return c;
}

MigrationCase check_stop_case(const Row& r) {
  const CheckStop args{.sampled = r.lab.words({1}, [](size_t) { return 2u; }),
                       .should_stop = r.lab.output({1}, gpu::Type::u32),
                       .eos_token_id = 2,
                       .max_tokens = 9,
                       .current_pos = 4};
  MigrationCase c{
      .setting = {}, .work = check_stop(r.caps(), args, r.over<CheckStop>()), .tolerance = exact};
  c.bindings = {{{"sampledToken", "sampled_token"}, args.sampled},
                output(r.lab, {"shouldStop", "should_stop"}, args.should_stop)};
  c.fields = {{{"eosTokenId", "eos_token_id"}, 2},
              {{"maxTokens", "max_tokens"}, 9},
              {{"currentPos", "current_pos"}, 4}};
  c.grid = groups(1);
  return c;
}

const std::map<std::string_view, MigrationCase (*)(const Row&)>& makers() {
  static const std::map<std::string_view, MigrationCase (*)(const Row&)> all = {
      {"attention_decode", attention_decode_case},
      {"attention_prefill", attention_prefill_case},
      {"attention_streaming", attention_streaming_case},
      {"bf16_to_f16", bf16_to_f16_case},
      {"bf16_to_f32", bf16_to_f32_case},
      {"bias_add", bias_add_case},
      {"cast_f32_to_f16", cast_f32_to_f16_case},
      {"check_stop", check_stop_case},
      {"dequant_mxfp4", dequant_mxfp4_case},
      {"dequant_q4k", dequant_q4k_case},
      {"dequant_q6k", dequant_q6k_case},
      {"dequant_q8_0", dequant_q8_0_case},
      {"fused_ffn", fused_ffn_case},
      {"fused_matmul_q4", fused_matmul_q4_case},
      {"fused_matmul_rmsnorm", fused_matmul_rmsnorm_case},
      {"fused_swiglu", fused_swiglu_case},
      {"gather", gather_case},
      {"gelu", gelu_case},
      {"matmul", matmul_case},
      {"matmul_gemv", matmul_gemv_case},
      {"matmul_gemv_residual", matmul_gemv_residual_case},
      {"moe_gather", moe_gather_case},
      {"relu", relu_case},
      {"residual", residual_case},
      {"rmsnorm", rmsnorm_case},
      {"rope_compute", rope_compute_case},
      {"rope_init", rope_init_case},
      {"rope_precomputed", rope_precomputed_case},
      {"sample_argmax", sample_argmax_case},
      {"sample_topk", sample_topk_case},
      {"scale", scale_case},
      {"scatter_add", scatter_add_case},
      {"silu", silu_case},
      {"softmax", softmax_case},
      {"softmax_log", softmax_log_case},
      {"split_qkv", split_qkv_case},
      {"topk", topk_case},
  };
  return all;
}

}  // namespace

std::vector<MigrationCase> migration_cases(Lab& lab, const Migrated& row, bool large) {
  if (row.kernel == "(deleted)") return {};
  const auto maker = makers().find(row.kernel);
  require(maker != makers().end(), "{} {}: {} has no case", row.file, row.entry, row.kernel);

  // Each choice that a parameter leaves, "0|1", with each of the others; a letter is the maker's.
  std::vector<std::pair<Params, std::string>> choices = {{}};
  for (const auto& [name, text] : row.params) {
    std::vector<std::pair<Params, std::string>> next;
    for (const auto& [params, setting] : choices)
      for (std::string_view rest = text; !rest.empty();) {
        const std::string_view value = rest.substr(0, rest.find('|'));
        rest.remove_prefix(std::min(value.size() + 1, rest.size()));
        next.emplace_back(params, setting);
        if (const auto given = number(value)) next.back().first[name] = *given;
        if (value.size() != text.size())
          next.back().second += fmt::format("{}{}={}", setting.empty() ? "" : " ", name, value);
      }
    choices = std::move(next);
  }

  std::vector<MigrationCase> cases;
  for (const auto& [params, setting] : choices) {
    cases.push_back(maker->second({lab, row, params, large}));
    cases.back().setting = setting;
  }
  return cases;
}

bool run_cases(gpu::Device& device, const Migrated& row, bool large,
               const std::function<void(Lab&, const MigrationCase&)>& run) {
  Lab lab(device);
  std::vector<MigrationCase> cases;
  try {
    cases = migration_cases(lab, row, large);
  } catch (const std::invalid_argument&) {
    return false;
  }
  for (const MigrationCase& c : cases) run(lab, c);
  return true;
}

void check_selected(const Migrated& row, const gpu::Work& work) {
  const Room room =
      read_room(std::ranges::find(wgsl_sources(), row.kernel, &WgslSource::name)->text);
  const auto overridden = [&](const gpu::Dispatch& d, const auto& setting) {
    return std::ranges::any_of(d.constants, [&](const gpu::Constant& c) {
      return c.name == setting.first && c.value == number(setting.second);
    });
  };
  // A parameter that has another name now stands so in the last column: "query_len is rows".
  const auto passed = [&](const gpu::Dispatch& d, const auto& setting) {
    for (size_t i = 0; i < room.params.size(); ++i) {
      const Declared& field = room.params[i];
      if (field.name != setting.first &&
          row.decision.find(fmt::format("{} is {}", setting.first, field.name)) ==
              std::string::npos)
        continue;
      uint32_t word = 0;
      std::memcpy(&word, d.params.data() + 4 * i, 4);
      const double value = field.type == "f32" ? double(std::bit_cast<float>(word)) : double(word);
      // A letter or a choice: any value.
      const auto wanted = number(setting.second);
      if (!wanted || std::abs(value - *wanted) <= 1e-6 * std::abs(*wanted)) return true;
    }
    return false;
  };
  for (const gpu::Dispatch& d : work.dispatches)
    if (d.kernel->name == row.kernel && (room.entries.size() == 1 || d.entry == row.entry) &&
        std::ranges::all_of(row.overrides, [&](const auto& s) { return overridden(d, s); }) &&
        std::ranges::all_of(row.params, [&](const auto& s) { return passed(d, s); }))
      return;
  std::string made;
  for (const gpu::Dispatch& d : work.dispatches) made += "\n  " + to_string(d);
  fail("{} {}: no dispatch has the row's overrides and parameters:{}", row.file, row.entry, made);
}

std::string_view correction(int number) {
  static constexpr std::string_view texts[] = {
      "top-k is exact, ties go to the lower id, temperature 0 is greedy",
      "the norm of a product covers all its columns",
      "NTK, YaRN and linear scaling are as published",
      "an element has its own sub-block's scale, whatever the subgroup size",
      "weights and outputs have the type that the entry names; RMSNorm adds a residual after the"
      " norm and writes its second output",
      "nothing is skipped silently",
      "a fully masked row gives zeros",
      "bias is indexed by column; gathering for experts drops nothing and keeps its order",
      "in place is one read_write binding",
  };
  require(number >= 1 && number <= int(std::size(texts)), "there is no correction {}", number);
  return texts[number - 1];
}

}  // namespace ms
