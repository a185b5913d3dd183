// llama.cpp: the forward pass, twice: a token a slot, and many tokens of one slot.
#include "model/llama.hpp"

#include <algorithm>
#include <cmath>
#include <tuple>

namespace ms {

namespace {

constexpr uint32_t default_context = 4096;

// The first `rows` rows of a tensor of more.
gpu::View head(const gpu::View& view, uint32_t rows) { return view.slice(0, {rows, view.cols()}); }

gpu::View by_head(const gpu::View& view, const Config& c) {
  return view.as({view.rows(), c.heads, c.head_dim});
}

}  // namespace

gpu::Work Llama::decode() const {
  const Config& c = config_;
  const gpu::Caps& caps = device_.caps();
  const bool int8 = options_.int8_activations;
  const uint32_t n = options_.slots;
  const StepRows step{.slots = slots_};
  // [slots, …] f32
  gpu::View h = head(hidden_, n), h2 = head(hidden2_, n);
  const gpu::View qkv = head(qkv_, n), q = head(q_, n), attended = head(attended_, n),
                  ffn = head(ffn_, n), gate_up = head(gate_up_, n);

  // embedding: h [slots, dim]
  gpu::Work work = gather(
      caps, {.indices = slots_, .table = embedding_, .y = h, .index_stride = sizeof(Slot) / 4});
  for (const Layer& l : layers_) {
    // norm and q, k, v: qkv [slots, q_size + 2 kv_size]
    for (const Part& part : l.qkv)
      work += matmul_gemv(caps, {.x = h,
                                 .weight = part.weight,
                                 .norm = l.attn_norm,
                                 .y = qkv,
                                 .y_offset = part.first_row,
                                 .eps = c.norm_eps,
                                 .int8_activations = int8});
    // RoPE; q [slots, q_size]; k and v to the cache, at each slot's position
    work += split_qkv(caps, {.qkv = qkv,
                             .q = q,
                             .cache = l.cache,
                             .step = step,
                             .head_dim = c.head_dim,
                             .cos = cos_,
                             .sin = sin_,
                             .interleaved = true});
    // attended [slots, q_size]
    work += attention_decode(
        caps, {.q = by_head(q, c), .cache = l.cache, .out = by_head(attended, c), .step = step});
    // h2 = h + output projection [slots, dim]
    work += matmul_gemv_residual(
        caps,
        {.x = attended, .weight = l.attn_output, .residual = h, .y = h2, .int8_activations = int8});
    if (l.router) {
      work += mixture(l, h2);
      std::swap(h, h2);
      continue;
    }
    // ffn = SiLU(gate) * up [slots, ffn]
    if (l.gate_up) {
      work += fused_ffn(caps, {.x = h2,
                               .weight = l.gate_up,
                               .norm = l.ffn_norm,
                               .y = ffn,
                               .eps = c.norm_eps,
                               .int8_activations = int8});
    } else {
      work += matmul_gemv(caps, {.x = h2,
                                 .weight = l.gate,
                                 .norm = l.ffn_norm,
                                 .y = gate_up,
                                 .eps = c.norm_eps,
                                 .int8_activations = int8});
      work += matmul_gemv(caps, {.x = h2,
                                 .weight = l.up,
                                 .norm = l.ffn_norm,
                                 .y = gate_up,
                                 .y_offset = c.ffn,
                                 .eps = c.norm_eps,
                                 .int8_activations = int8});
      work += silu(caps, {.input = gate_up, .y = ffn, .layout = GateLayout::row_split});
    }
    // h = h2 + down projection [slots, dim]
    work += matmul_gemv_residual(
        caps, {.x = ffn, .weight = l.down, .residual = h2, .y = h, .int8_activations = int8});
  }
  // logits [slots, vocab]
  work += matmul_gemv(caps, {.x = h,
                             .weight = output_,
                             .norm = output_norm_,
                             .y = logits_,
                             .eps = c.norm_eps,
                             .int8_activations = int8});
  return work;
}

gpu::Work Llama::prefill(uint32_t rows, uint32_t slot, bool want_logits) const {
  const Config& c = config_;
  const gpu::Caps& caps = device_.caps();
  const bool int8 = options_.int8_activations;
  require(rows >= 1 && rows <= options_.batch, "prefill: {} rows, the batch holds {}", rows,
          options_.batch);
  require(!want_logits || rows <= logit_rows_, "prefill: logits of {} rows, there is room for {}",
          rows, logit_rows_);
  const StepRows step{.slots = slots_, .prefill = true, .slot = slot};
  // [rows, …] f32
  gpu::View h = head(hidden_, rows), h2 = head(hidden2_, rows);
  const gpu::View x = head(normed_, rows), qkv = head(qkv_, rows), q = head(q_, rows),
                  attended = head(attended_, rows), gate_up = head(gate_up_, rows),
                  ffn = head(ffn_, rows);

  // embedding: h [rows, dim]
  gpu::Work work = gather(caps, {.indices = tokens_, .table = embedding_, .y = h});
  for (const Layer& l : layers_) {
    // x = norm(h); qkv [rows, q_size + 2 kv_size]
    work += rmsnorm(caps, {.x = h, .weight = l.attn_norm, .y = x, .eps = c.norm_eps});
    for (const Part& part : l.qkv)
      work += matmul(caps, {.a = x,
                            .b = part.weight,
                            .c = qkv,
                            .c_offset = part.first_row,
                            .int8_activations = int8});
    // RoPE; q [rows, q_size]; k and v to the cache, from the slot's position on
    work += split_qkv(caps, {.qkv = qkv,
                             .q = q,
                             .cache = l.cache,
                             .step = step,
                             .head_dim = c.head_dim,
                             .cos = cos_,
                             .sin = sin_,
                             .interleaved = true});
    if (&l == &layers_.back() && !want_logits)
      break;  // the cache is filled: nothing reads what follows
    // attended [rows, q_size]; x = its output projection; h2 = h + x [rows, dim]
    work += attention_prefill(
        caps, {.q = by_head(q, c), .cache = l.cache, .out = by_head(attended, c), .step = step});
    work += matmul(caps, {.a = attended, .b = l.attn_output, .c = x, .int8_activations = int8});
    work += residual(caps, {.a = h, .b = x, .y = h2});
    if (l.router) {
      work += mixture(l, h2);
      std::swap(h, h2);
      continue;
    }
    // x = norm(h2); gate and up [rows, 2 ffn]; ffn = SiLU(gate) * up [rows, ffn]
    work += rmsnorm(caps, {.x = h2, .weight = l.ffn_norm, .y = x, .eps = c.norm_eps});
    if (l.gate_up) {
      work += matmul(caps, {.a = x, .b = l.gate_up, .c = gate_up, .int8_activations = int8});
    } else {
      work += matmul(caps, {.a = x, .b = l.gate, .c = gate_up, .int8_activations = int8});
      work += matmul(
          caps, {.a = x, .b = l.up, .c = gate_up, .c_offset = c.ffn, .int8_activations = int8});
    }
    work += silu(caps, {.input = gate_up,
                        .y = ffn,
                        .layout = l.gate_up ? GateLayout::interleaved : GateLayout::row_split});
    // x = down projection; h = h2 + x [rows, dim]
    work += matmul(caps, {.a = ffn, .b = l.down, .c = x, .int8_activations = int8});
    work += residual(caps, {.a = h2, .b = x, .y = h});
  }
  if (want_logits) {
    work += rmsnorm(caps, {.x = h, .weight = output_norm_, .y = x, .eps = c.norm_eps});
    work +=
        matmul(caps, {.a = x, .b = output_, .c = logits_of_rows(rows), .int8_activations = int8});
  }
  return work;
}

gpu::Work Llama::mixture(const Layer& l, const gpu::View& h) const {
  const Config& c = config_;
  const gpu::Caps& caps = device_.caps();
  const bool int8 = options_.int8_activations;
  const uint32_t tokens = h.rows(), rows = tokens * c.experts_used;
  const gpu::View logits = head(router_logits_, tokens), ids = head(expert_ids_, tokens),
                  weights = head(expert_weights_, tokens), x = head(expert_in_, rows),
                  experts = head(row_experts_, rows), token_rows = head(token_rows_, tokens),
                  gate_up = head(gate_up_, rows), ffn = head(ffn_, rows),
                  out = head(expert_out_, rows);

  // router logits [tokens, experts]: not of rounded activations, which would tip close choices
  gpu::Work work = matmul_gemv(
      caps, {.x = h, .weight = l.router, .norm = l.ffn_norm, .y = logits, .eps = c.norm_eps});
  // the experts of each token, and their weights, which add up to 1 [tokens, experts_used]
  work += topk(
      caps, {.x = logits, .indices = ids, .weights = weights, .softmax = true, .normalize = true});
  // x [rows, dim]: a row for each token and expert, by expert. The choice never leaves the GPU.
  work += moe_gather(caps, {.hidden = h,
                            .expert_indices = ids,
                            .gathered = x,
                            .token_counts = expert_counts_,
                            .token_map = head(row_tokens_, rows),
                            .token_offsets = token_rows,
                            .row_experts = experts});
  // ffn = SiLU(gate) * up [rows, ffn]. Each row reads its expert's weights, also in a prefill,
  // which costs rows / experts times the reads of a matmul over each expert's rows, most of them
  // cached.
  if (l.gate_up) {
    work += fused_ffn(caps, {.x = x,
                             .weight = l.gate_up,
                             .norm = l.ffn_norm,
                             .y = ffn,
                             .eps = c.norm_eps,
                             .int8_activations = int8,
                             .experts = experts,
                             .num_experts = c.experts});
  } else {
    for (const auto& [weight, column] : {std::pair(&l.gate, 0u), {&l.up, c.ffn}})
      work += matmul_gemv(caps, {.x = x,
                                 .weight = *weight,
                                 .norm = l.ffn_norm,
                                 .y = gate_up,
                                 .y_offset = column,
                                 .eps = c.norm_eps,
                                 .int8_activations = int8,
                                 .experts = experts,
                                 .num_experts = c.experts});
    work += silu(caps, {.input = gate_up, .y = ffn, .layout = GateLayout::row_split});
  }
  // out = down projection [rows, dim]; h += its rows, weighted [tokens, dim]
  work += matmul_gemv(caps, {.x = ffn,
                             .weight = l.down,
                             .y = out,
                             .int8_activations = int8,
                             .experts = experts,
                             .num_experts = c.experts});
  work += scatter_add(caps, {.expert_outputs = out,
                             .weights = weights,
                             .output = h,
                             .token_offsets = token_rows,
                             .accumulate = true});
  return work;
}

gpu::Work Llama::sample(bool greedy) const {
  const gpu::Caps& caps = device_.caps();
  gpu::Work work =
      greedy ? sample_argmax(caps, {.slots = slots_, .logits = logits_, .sampled = sampled_})
             : sample_topk(
                   caps,
                   {.slots = slots_, .logits = logits_, .sampled = sampled_, .history = history_});
  work += check_stop(caps, {.sampled = sampled_, .slots = slots_, .history = history_});
  return work;
}

gpu::View Llama::logits_of_rows(uint32_t rows) const { return head(batch_logits_, rows); }

Llama::Llama(gpu::Device& device, const Config& config, const Catalog& catalog,
             const ModelOptions& options, const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device), config_(config), options_(options) {
  const Config& c = config_;
  if (!options_.context) options_.context = std::min(c.context, default_context);
  const uint32_t token_rows = std::max(1u, c.experts_used);  // of the feed-forward networks
  options_.batch = std::clamp(options_.batch, options_.slots, 65535u / token_rows);
  // What grows with the context, a position: keys or values of a layer, and a RoPE table. And with
  // the batch, a token: the widest activations. Each is one binding, unlike weights (split_rows).
  const gpu::Type kv = options_.f32_kv ? gpu::Type::f32 : gpu::Type::f16;
  const uint32_t kv_dim = options_.f32_kv ? c.head_dim : (c.head_dim + 1) / 2 * 2;
  const uint64_t position =
      std::max<uint64_t>(uint64_t(options_.slots) * c.kv_heads * kv_dim * bytes_of(kv),
                         4ull * std::max(c.rotary_dim / 2, options_.slots));
  const uint64_t token = 4 * std::max<uint64_t>({uint64_t(token_rows) * std::max(2 * c.ffn, c.dim),
                                                 c.q_size() + 2ull * c.kv_size(), c.experts});
  const uint64_t room = std::min(device.caps().max_binding_bytes, device.caps().max_buffer_bytes);
  for (const auto& [what, count, bytes, option] :
       {std::tuple("context", options_.context, position, "-c"),
        {"batch", options_.batch, token, "-b"}})
    if (count > room / bytes)
      fail(
          "a {} of {} tokens takes {} bytes a token in one binding; of {} it holds {}: at most {} "
          "tokens ({})",
          what, count, bytes, device.caps().name, room, room / bytes, option);
  load(catalog, progress);
  load_rope(catalog);
  device_.submit(device_.record(tables()));

  const uint32_t n = options_.slots, batch = options_.batch;
  for (Layer& l : layers_)
    l.cache = {.k = tensor({uint64_t(n) * options_.context, c.kv_heads, kv_dim}, "keys", kv),
               .v = tensor({uint64_t(n) * options_.context, c.kv_heads, kv_dim}, "values", kv),
               .capacity = options_.context};
  slots_ = tensor({n, sizeof(Slot) / 4}, "slots", gpu::Type::u32);
  history_ = tensor({n, options_.context}, "history", gpu::Type::u32);
  tokens_ = tensor({batch}, "tokens", gpu::Type::u32);
  sampled_ = tensor({n}, "sampled", gpu::Type::u32);
  logits_ = tensor({n, c.vocab}, "logits");
  hidden_ = tensor({batch, c.dim}, "hidden");
  hidden2_ = tensor({batch, c.dim}, "hidden 2");
  normed_ = tensor({batch, c.dim}, "normed");
  qkv_ = tensor({batch, c.q_size() + 2 * c.kv_size()}, "qkv");
  q_ = tensor({batch, c.q_size()}, "q");
  attended_ = tensor({batch, c.q_size()}, "attended");
  const uint64_t rows = uint64_t(batch) * token_rows;
  gate_up_ = tensor({rows, 2 * c.ffn}, "gate and up");
  ffn_ = tensor({rows, c.ffn}, "ffn");
  if (c.experts) {
    router_logits_ = tensor({batch, c.experts}, "router logits");
    expert_ids_ = tensor({batch, c.experts_used}, "expert ids", gpu::Type::u32);
    expert_weights_ = tensor({batch, c.experts_used}, "expert weights");
    expert_in_ = tensor({rows, c.dim}, "experts' inputs");
    expert_out_ = tensor({rows, c.dim}, "experts' outputs");
    expert_counts_ = tensor({c.experts}, "expert counts", gpu::Type::u32);
    row_tokens_ = tensor({rows, 2}, "tokens of rows", gpu::Type::u32);
    row_experts_ = tensor({rows, 1}, "experts of rows", gpu::Type::u32);
    token_rows_ = tensor({batch, c.experts_used}, "rows of tokens", gpu::Type::u32);
  }
  // Logits of a whole batch are large: as many rows as half a binding of the smallest device holds.
  const uint64_t half = std::min<uint64_t>(64ull << 20, room / 2);
  logit_rows_ = uint32_t(std::clamp<uint64_t>(half / (4ull * c.vocab), 1, batch));
  batch_logits_ = tensor({logit_rows_, c.vocab}, "logits of rows");

  const std::vector<Slot> idle(n);
  device_.write(*slots_.buffer, 0, std::as_bytes(std::span(idle)));
}

gpu::View Llama::tensor(gpu::Shape shape, std::string label, gpu::Type type) {
  memory_.push_back(device_.buffer(shape.size() * bytes_of(type), std::move(label)));
  return gpu::view(memory_.back(), shape, type);
}

void Llama::load(const Catalog& catalog, const std::function<void(uint64_t, uint64_t)>& progress) {
  const Config& c = config_;
  WeightLoader loader(device_, catalog, progress);
  const uint64_t q = c.q_size(), kv = c.kv_size();
  const auto bytes = [](const Weight& w) {
    return (w ? w.quants.bytes() : 0) + (w.scales ? w.scales.bytes() : 0);
  };
  uint64_t expert_bytes = 0;  // of all experts
  const TensorInfo& embedding = catalog.get("token_embd.weight", {c.vocab, c.dim});
  embedding_ = loader.stack({&embedding});
  output_ = catalog.find("output.weight")
                ? loader.stack({&catalog.get("output.weight", {c.vocab, c.dim})})
                : embedding_;
  output_norm_ = loader.vector(catalog.get("output_norm.weight", {c.dim}));
  for (uint32_t i = 0; i < c.layers; ++i) {
    const auto get = [&](std::string_view name, std::vector<uint64_t> shape) {
      return &catalog.get(fmt::format("blk.{}.{}.weight", i, name), std::move(shape));
    };
    // Of a feed-forward network, or of one an expert.
    const auto get_ffn = [&](std::string_view name, uint64_t rows, uint64_t cols) {
      return c.experts ? get(fmt::format("{}_exps", name), {c.experts, rows, cols})
                       : get(name, {rows, cols});
    };
    Layer l;
    l.attn_norm = loader.vector(*get("attn_norm", {c.dim}));
    // q, k and v in one matrix, as far as their types allow.
    std::vector<const TensorInfo*> run;
    uint32_t row = 0;
    const auto flush = [&] {
      if (run.empty()) return;
      l.qkv.push_back({loader.stack(run), row});
      row += l.qkv.back().weight.rows;
      run.clear();
    };
    for (const TensorInfo* t :
         {get("attn_q", {q, c.dim}), get("attn_k", {kv, c.dim}), get("attn_v", {kv, c.dim})}) {
      if (!run.empty() && run.back()->type != t->type) flush();
      run.push_back(t);
    }
    flush();
    l.attn_output = loader.stack({get("attn_output", {c.dim, q})});
    l.ffn_norm = loader.vector(*get("ffn_norm", {c.dim}));
    if (c.experts) l.router = loader.stack({get("ffn_gate_inp", {c.experts, c.dim})});
    const TensorInfo *gate = get_ffn("ffn_gate", c.ffn, c.dim),
                     *up = get_ffn("ffn_up", c.ffn, c.dim);
    if (gate->type == up->type)
      l.gate_up = loader.interleave(*gate, *up);
    else
      l.gate = loader.stack({gate}), l.up = loader.stack({up});
    l.down = loader.stack({get_ffn("ffn_down", c.dim, c.ffn)});
    if (c.experts) expert_bytes += bytes(l.gate_up) + bytes(l.gate) + bytes(l.up) + bytes(l.down);
    layers_.push_back(std::move(l));
  }
  memory_ = loader.take();
  const uint64_t weight_bytes = loader.packed_bytes();
  // A step reads every weight but the embedding, of which it reads a row a slot, unless that is the
  // output too, and but the experts that are not chosen.
  bytes_per_token_ = weight_bytes - (catalog.find("output.weight") ? bytes(embedding_) : 0);
  if (c.experts) bytes_per_token_ -= expert_bytes / c.experts * (c.experts - c.experts_used);
}

void Llama::load_rope(const Catalog& catalog) {
  const Config& c = config_;
  const uint32_t pairs = c.rotary_dim / 2;
  RopeScaling scaling = c.rope_scaling;
  std::vector<float> factors(pairs);
  if (const TensorInfo* t = catalog.find("rope_freqs.weight")) {
    if (!can_decode(catalog.get("rope_freqs.weight", {pairs}).type))
      fail("{}: tensor {} is of type {}, which is not supported", catalog.source, t->name,
           info(t->type).name);
    ms::decode(t->type, t->data, factors);
    scaling.factors = factors;
  }
  std::vector<uint32_t> words;
  try {
    words = rope_frequencies(scaling, c.rotary_dim, c.rope_base);
  } catch (const std::invalid_argument& error) {
    fail("{}: {}", catalog.source, error.what());  // the file's numbers
  }
  freqs_ = tensor({pairs, 2}, "RoPE frequencies", gpu::Type::u32);
  device_.write(*freqs_.buffer, 0, std::as_bytes(std::span(words)));
  cos_ = tensor({options_.context, pairs}, "RoPE cos");
  sin_ = tensor({options_.context, pairs}, "RoPE sin");
  attention_factor_ = float(rope_attention_factor(scaling));
}

gpu::Work Llama::tables() const {
  return rope_init(
      device_.caps(),
      {.freqs = freqs_, .cos = cos_, .sin = sin_, .attention_factor = attention_factor_});
}

}  // namespace ms
