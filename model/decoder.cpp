// decoder.cpp: loading a model, and its passes: a token a slot, and many tokens of one slot.
#include "model/decoder.hpp"

#include <algorithm>
#include <chrono>
#include <tuple>

namespace ms {

namespace {

constexpr uint32_t default_context = 4096;

// Up to so many positions a step of one dispatch is the faster one on an H200; beyond, an attention
// of its own has more keys under way.
constexpr uint32_t whole_step_context = 8192;

// The first `rows` rows of a tensor of more.
gpu::View head(const gpu::View& view, uint32_t rows) { return view.slice(0, {rows, view.cols()}); }

}  // namespace

gpu::Work Decoder::decode(uint32_t slots) const {
  require(slots >= 1 && slots <= options_.slots, "decode: {} slots, there are {}", slots,
          options_.slots);
  const gpu::View first = head(slots_, slots);
  Pass pass(device_.caps(), config_, activations_, slots,
            {.int16_activations = options_.activations == ActivationType::int16,
             .persistent = options_.step == Step::persistent && slots == 1,
             .whole = options_.step == Step::persistent && slots == 1 && whole_steps_,
             .groups = options_.step_groups,
             .step = {.slots = first},
             .tokens = first,
             .token_stride = sizeof(Slot) / 4,
             .logits = head(logits_, slots)});
  config_.architecture->graph(weights_, config_, pass);
  return pass.take();
}

gpu::Work Decoder::prefill(uint32_t rows, uint32_t slot, Want want) const {
  require(rows >= 1 && rows <= options_.batch, "prefill: {} rows, the batch holds {}", rows,
          options_.batch);
  require(want != Want::logits || rows <= logit_rows_,
          "prefill: logits of {} rows, there is room for {}", rows, logit_rows_);
  Pass pass(device_.caps(), config_, activations_, rows,
            {.int16_activations = options_.activations == ActivationType::int16,
             .step = {.slots = slots_, .prefill = true, .slot = slot},
             .tokens = tokens_,
             .logits = want == Want::logits ? logits_of_rows(rows) : gpu::View{},
             .states = want == Want::states});
  config_.architecture->graph(weights_, config_, pass);
  return pass.take();
}

gpu::Work Decoder::sample(uint32_t slots, bool greedy, const gpu::View& mask,
                          const gpu::View& bias) const {
  require(slots >= 1 && slots <= options_.slots, "sample: {} slots, there are {}", slots,
          options_.slots);
  require(!greedy || (!mask && !bias), "sample: greedy takes neither mask nor bias");
  const gpu::Caps& caps = device_.caps();
  const gpu::View first = head(slots_, slots), logits = head(logits_, slots),
                  history = head(history_, slots), sampled = sampled_.slice(0, {slots});
  if (greedy)
    return sample_argmax(
        caps, {.slots = first, .logits = logits, .sampled = sampled, .history = history});
  gpu::Work work = sample_topk(caps, {.slots = first,
                                      .logits = logits,
                                      .sampled = sampled,
                                      .history = history,
                                      .bias = bias,
                                      .mask = mask});
  work += check_stop(caps, {.sampled = sampled, .slots = first, .history = history});
  return work;
}

gpu::View Decoder::states_of_rows(uint32_t rows) const {
  return activations_.normed.slice(0, {rows, config_.dim});
}

gpu::View Decoder::logits_of_rows(uint32_t rows) const {
  return batch_logits_.slice(0, {rows, config_.vocab});
}

Decoder::Decoder(gpu::Device& device, const Config& config, const Catalog& catalog,
                 const ModelOptions& options,
                 const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device), config_(config), options_(options) {
  const Config& c = config_;
  if (!options_.context) options_.context = std::min(c.context, default_context);
  if (options_.activations == ActivationType::automatic) {
    const gpu::Caps& caps = device.caps();
    options_.activations = (caps.int8_dot && !caps.cpu) || options_.step == Step::persistent
                               ? ActivationType::int16
                               : ActivationType::f32;
  }
  const uint32_t token_rows = std::max(1u, c.experts_used);  // of the feed-forward networks
  options_.batch = std::clamp(options_.batch, options_.slots, 65535u / token_rows);
  // What grows with the context, a position: keys or values of a layer, and a RoPE table. And with
  // the batch, a token: the widest activations. Each is one binding, unlike weights (split_rows).
  const gpu::Type kv = element_type(options_.kv_type);
  if (options_.kv_type == KvType::q8_0 && c.head_dim % 32 != 0)
    fail("{}: heads of {} elements are no whole blocks of 32: no KV cache of q8_0 (-ctk)",
         catalog.source, c.head_dim);
  const auto kv_rows = [&](uint64_t rows) {
    return kv_shape(options_.kv_type, rows, c.kv_heads, c.head_dim);
  };
  const uint64_t position = std::max<uint64_t>(kv_rows(options_.slots).size() * bytes_of(kv),
                                               4ull * std::max(c.rotary_dim, options_.slots));
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
  const uint32_t tile = options_.step == Step::persistent ? 1 : choose_row_tile(device_.caps());
  loader_ = std::make_unique<WeightLoader>(device_, catalog, tile, progress);
  place(catalog);

  const uint32_t n = options_.slots, batch = options_.batch;
  // Keys of as many layers in a buffer as a binding reaches, and values.
  const gpu::Shape cache_shape = kv_rows(uint64_t(n) * options_.context);
  const uint64_t cache_bytes = (cache_shape.size() * bytes_of(kv) + 255) / 256 * 256;
  const uint64_t together = std::clamp<uint64_t>(room / cache_bytes, 1, c.layers);
  gpu::View keys, values;
  for (uint32_t i = 0; i < c.layers; ++i) {
    if (i % together == 0) {
      const uint64_t words = std::min(together, uint64_t(c.layers) - i) * cache_bytes / 4;
      keys = tensor({words}, "keys", gpu::Type::u32);
      values = tensor({words}, "values", gpu::Type::u32);
    }
    keys.offset = values.offset = i % together * cache_bytes;
    keys.shape = values.shape = cache_shape;
    keys.type = values.type = kv;
    weights_.layers[i].cache = {.k = keys, .v = values, .capacity = options_.context};
  }
  slots_ = tensor({n, sizeof(Slot) / 4}, "slots", gpu::Type::u32);
  history_ = tensor({n, options_.context}, "history", gpu::Type::u32);
  tokens_ = tensor({batch}, "tokens", gpu::Type::u32);
  sampled_ = tensor({n}, "sampled", gpu::Type::u32);
  logits_ = tensor({n, c.vocab}, "logits");
  Activations& a = activations_;
  a.hidden = tensor({batch, c.dim}, "hidden");
  a.hidden2 = tensor({batch, c.dim}, "hidden 2");
  a.normed = tensor({batch, c.dim}, "normed");
  a.qkv = tensor({batch, c.q_size() + 2 * c.kv_size()}, "qkv");
  a.q = tensor({batch, c.q_size()}, "q");
  a.attended = tensor({batch, c.q_size()}, "attended");
  uint64_t part_words = 0;  // most of the steps of fewer slots
  for (uint32_t slots = 1; slots <= n; ++slots)
    if (const uint32_t splits =
            attention_splits(device_.caps(), slots, c.heads, c.kv_heads, options_.context);
        splits > 1)
      part_words =
          std::max<uint64_t>(part_words, attention_part_words(slots, c.heads, c.head_dim, splits));
  if (part_words) a.attention_parts = tensor({part_words}, "attention parts", gpu::Type::u32);
  const uint64_t rows = uint64_t(batch) * token_rows;
  a.gate_up = tensor({rows, 2 * c.ffn}, "gate and up");
  a.ffn = tensor({rows, c.ffn}, "ffn");
  if (c.experts) {
    a.router_logits = tensor({batch, c.experts}, "router logits");
    a.expert_ids = tensor({batch, c.experts_used}, "expert ids", gpu::Type::u32);
    a.expert_weights = tensor({batch, c.experts_used}, "expert weights");
    a.expert_in = tensor({rows, c.dim}, "experts' inputs");
    a.expert_out = tensor({rows, c.dim}, "experts' outputs");
    a.expert_counts = tensor({c.experts}, "expert counts", gpu::Type::u32);
    a.row_tokens = tensor({rows, 2}, "tokens of rows", gpu::Type::u32);
    a.row_experts = tensor({rows, 1}, "experts of rows", gpu::Type::u32);
    a.token_rows = tensor({batch, c.experts_used}, "rows of tokens", gpu::Type::u32);
  }
  // Logits of a whole batch are large: as many rows as half a binding of the smallest device holds.
  const uint64_t half = std::min<uint64_t>(64ull << 20, room / 2);
  logit_rows_ = uint32_t(std::clamp<uint64_t>(half / (4ull * c.vocab), 1, batch));
  batch_logits_ = tensor({logit_rows_, c.vocab}, "logits of rows");

  const std::vector<Slot> idle(n);
  device_.write(*slots_.buffer, 0, std::as_bytes(std::span(idle)));
  if (options_.step == Step::persistent) {
    if (const std::string why = use_persistent(options_.step_groups); !why.empty())
      fail("no persistent step: {}; take a chain of kernels (--step chain)", why);
  } else {
    use_chain();
  }
}

gpu::View Decoder::tensor(gpu::Shape shape, std::string label, gpu::Type type) {
  memory_.push_back(device_.buffer(shape.size() * bytes_of(type), std::move(label)));
  return gpu::view(memory_.back(), shape, type);
}

void Decoder::load() {
  const auto start = std::chrono::steady_clock::now();
  device_.submit(device_.record(tables_));
  loader_->send();
  weight_bytes_ = loader_->packed_bytes();
  loader_.reset();
  load_seconds_ = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void Decoder::place(const Catalog& catalog) {
  const Config& c = config_;
  DecoderWeights& w = weights_;
  WeightLoader& loader = *loader_;
  const bool tied = !catalog.find("output.weight");
  w.embedding = loader.stack({&catalog.get("token_embd.weight", {c.vocab, c.dim})});
  w.output.parts = {
      {tied ? w.embedding : loader.stack({&catalog.get("output.weight", {c.vocab, c.dim})})}};
  w.output_norm = loader.vector({&catalog.get("output_norm.weight", {c.dim})});
  for (uint32_t i = 0; i < c.layers; ++i) {
    LayerLoader layer(loader, catalog, c, i);
    w.layers.push_back(c.architecture->layer(layer));
  }
  loader.require_all_used();
  memory_ = loader.take();

  RopeScaling scaling = c.rope_scaling;
  std::vector<float> factors(c.rotary_dim / 2);
  if (const TensorInfo* t = catalog.find("rope_freqs.weight")) {
    if (!can_decode(catalog.get("rope_freqs.weight", {factors.size()}).type))
      fail("{}: tensor {} is of type {}, which is not supported", catalog.source, t->name,
           info(t->type).name);
    ms::decode(t->type, t->data, factors);
    scaling.factors = factors;
  }
  w.rope = rope_table(c.rope_base, scaling, catalog.source);
  w.local_rope = c.local_rope_base ? rope_table(c.local_rope_base, {}, catalog.source) : w.rope;

  // A step reads every weight but the embedding, of which it reads a row a slot, unless that is the
  // output too, and but the experts that are not chosen.
  const auto bytes = [](const Weight& weight) {
    return weight.quants.bytes() + (weight.scales ? weight.scales.bytes() : 0);
  };
  bytes_per_token_ = loader.packed_bytes() - (tied ? 0 : bytes(w.embedding));
  for (const Layer& l : w.layers) {
    if (!l.router) continue;
    uint64_t experts = bytes(l.ffn.down);
    for (const Linear::Part& part : l.ffn.gate_up.parts) experts += bytes(part.weight);
    bytes_per_token_ -= experts / c.experts * (c.experts - c.experts_used);
  }
}

bool Decoder::takes_whole_steps() const {
  const Config& c = config_;
  if (options_.context > whole_step_context) return false;
  const FusedLayer::Layer first = fused(weights_.layers.front());
  for (uint32_t i = 0; i < c.layers; ++i) {
    const Layer& l = weights_.layers[i];
    const FusedLayer::Layer own = fused(l);
    if (c.window_of(i) || l.qk_norms || l.qkv.parts.size() > 2 ||
        own.output.type != first.output.type || !suits_fused_layer(device_.caps(), own, own) ||
        !suits_fused_attention_within(device_.caps(), c.heads, l.cache, weights_.rope))
      return false;
  }
  return true;
}

std::string Decoder::use_persistent(uint32_t groups) {
  if (options_.activations != ActivationType::int16)
    return "it takes activations rounded to 16 bits (--activations int16)";
  for (const Layer& l : weights_.layers) {
    if (l.router) return "the model is a mixture of experts";
    if (l.post_attn_norm || l.post_ffn_norm)
      return "the model has norms behind its products, which it has no room for";
    if (!l.ffn.interleaved) return "gate and up weights are of two types";
    const auto why = fused_layer_refusal(device_.caps(), fused(l));
    if (!why.empty()) return why;
  }
  if (!activations_.places) {
    std::vector<FusedLayer::Places> places;
    for (const Layer& l : weights_.layers) places.push_back(FusedLayer::place(fused(l)));
    activations_.places =
        tensor({places.size(), sizeof(places[0]) / 4}, "places of layers", gpu::Type::u32);
    device_.write(*activations_.places.buffer, 0, std::as_bytes(std::span(places)));
  }
  const std::vector<uint32_t> zeros(FusedLayer::exchange_words(
      config_.dim, config_.ffn, config_.heads, config_.kv_heads, config_.head_dim));
  gpu::View& exchange = activations_.exchange;
  if (!exchange) exchange = tensor({zeros.size()}, "exchange", gpu::Type::u32);
  device_.write(*exchange.buffer, 0, std::as_bytes(std::span(zeros)));
  const ModelOptions before = options_;
  options_.step = Step::persistent;
  options_.step_groups = groups;
  std::string why;
  for (whole_steps_ = takes_whole_steps();; whole_steps_ = false) {
    try {
      decode(1);
      return "";
    } catch (const std::invalid_argument& error) {  // of the device's memory and lanes
      why = error.what();
    }
    if (!whole_steps_) break;
  }
  options_ = before;
  return why;
}

gpu::View Decoder::rope_table(double base, const RopeScaling& scaling, const std::string& source) {
  const uint32_t pairs = config_.rotary_dim / 2;
  std::vector<uint32_t> words;
  try {
    words = rope_frequencies(scaling, config_.rotary_dim, base);
  } catch (const std::invalid_argument& error) {
    fail("{}: {}", source, error.what());  // the file's numbers
  }
  const gpu::View freqs = tensor({pairs, 2}, "RoPE frequencies", gpu::Type::u32);
  device_.write(*freqs.buffer, 0, std::as_bytes(std::span(words)));
  // Rounded up, so that the sines begin where a binding may.
  const uint32_t positions = (options_.context + 63) / 64 * 64;
  const gpu::View table = tensor({2, positions, pairs}, "RoPE cosines and sines");
  tables_ += rope_init(device_.caps(),
                       {.freqs = freqs,
                        .cos = table.slice(0, {positions, pairs}),
                        .sin = table.slice(uint64_t(positions) * pairs, {positions, pairs}),
                        .attention_factor = float(rope_attention_factor(scaling))});
  return table;
}

}  // namespace ms
