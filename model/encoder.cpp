// encoder.cpp: numbers, tensors and graph of encoders of BERT's family.
#include "model/encoder.hpp"

namespace ms {

bool is_encoder(const ModelFile& file) { return file.get_string("general.architecture") == "bert"; }

Config encoder_config(const ModelFile& file) {
  Config c;
  c.name = std::string(file.find_string("general.name").value_or(file.path().stem().string()));
  c.dim = count(file, "embedding_length", 1 << 17);
  c.layers = count(file, "block_count", 1024);
  c.heads = c.kv_heads = count(file, "attention.head_count", 1024);
  c.head_dim = c.dim / c.heads;
  if (c.dim % c.heads || c.head_dim > 256)
    fail("{}: {} heads of {} dimensions; a head has up to 256, all alike", file.path().string(),
         c.heads, c.dim);
  c.ffn = count(file, "feed_forward_length", 1 << 20);
  c.context = count(file, "context_length", 1 << 16);
  c.norm_eps = norm_epsilon(file, "attention.layer_norm_epsilon");
  c.qkv_bias = true;
  c.pooling = pooling_of(file, Pooling::mean);
  if (file.find_uint(key(file, "max_seq_length")))
    c.longest_text = count(file, "max_seq_length", c.context);
  c.vocab = vocabulary(file);
  return c;
}

Encoder::Encoder(gpu::Device& device, const Config& config, const Catalog& catalog,
                 uint32_t context, const std::function<void(uint64_t, uint64_t)>& progress)
    : device_(device), config_(config), context_(context ? context : config.context) {
  require(context_ <= config.context, "a context of {}; the encoder has {} positions", context_,
          config.context);
  const Config& c = config_;
  WeightLoader loader(device, catalog, choose_row_tile(device.caps()), progress);
  const auto vector = [&](const std::string& name, std::vector<uint64_t> shape) {
    return loader.vector({&catalog.get(name, std::move(shape))});
  };
  embedding_ = loader.stack({&catalog.get("token_embd.weight", {c.vocab, c.dim})});
  positions_ = vector("position_embd.weight", {c.context, c.dim});
  const TensorInfo* types = catalog.find("token_types.weight");
  types_ = vector("token_types.weight", {types ? types->rows() : 2, c.dim});
  embedding_norm_ = {vector("token_embd_norm.weight", {c.dim}),
                     vector("token_embd_norm.bias", {c.dim})};
  for (uint32_t i = 0; i < c.layers; ++i) {
    LayerLoader load(loader, catalog, c, i);
    const auto linear = [&](const std::string& name, uint64_t rows, uint64_t cols) {
      return Linear{.parts = {{load.matrix(name + ".weight", {rows, cols})}},
                    .bias = load.vector(name + ".bias", rows)};
    };
    const auto norm = [&](const std::string& name) {
      return Norm{load.vector(name + ".weight", c.dim), load.vector(name + ".bias", c.dim)};
    };
    layers_.push_back({.qkv = load.qkv(),
                       .attn_output = linear("attn_output", c.dim, c.dim),
                       .ffn_up = linear("ffn_up", c.ffn, c.dim),
                       .ffn_down = linear("ffn_down", c.dim, c.ffn),
                       .attn_norm = norm("attn_output_norm"),
                       .ffn_norm = norm("layer_output_norm")});
  }
  loader.require_all_used();
  loader.send();
  memory_ = loader.take();

  const uint32_t rows = context_;
  tokens_ = tensor({rows}, "tokens", gpu::Type::u32);
  hidden_ = tensor({rows, c.dim}, "hidden");
  hidden2_ = tensor({rows, c.dim}, "hidden 2");
  added_ = tensor({rows, c.dim}, "added");
  qkv_ = tensor({rows, 3 * c.dim}, "qkv");
  q_ = tensor({rows, c.dim}, "q");
  k_ = tensor({rows, c.heads, c.head_dim}, "keys");
  v_ = tensor({rows, c.heads, c.head_dim}, "values");
  attended_ = tensor({rows, c.dim}, "attended");
  ffn_ = tensor({rows, c.ffn}, "ffn");
}

gpu::View Encoder::tensor(gpu::Shape shape, std::string label, gpu::Type type) {
  memory_.push_back(device_.buffer(shape.size() * bytes_of(type), std::move(label)));
  return gpu::view(memory_.back(), shape, type);
}

gpu::Work Encoder::linear(const gpu::View& x, const Linear& weight, const gpu::View& y) const {
  gpu::Work work;
  for (const auto& [part, first_row] : weight.parts)
    work += matmul(device_.caps(), {.a = x, .b = part, .c = y, .c_offset = first_row});
  work += bias_add(device_.caps(), {.bias = weight.bias, .data = y});
  return work;
}

gpu::Work Encoder::encode(uint32_t rows) const {
  require(rows >= 1 && rows <= context(), "encode: {} rows of up to {}", rows, context());
  const Config& c = config_;
  const gpu::Caps& caps = device_.caps();
  const auto head = [&](const gpu::View& view) { return view.slice(0, {rows, view.cols()}); };
  const auto by_head = [&](const gpu::View& view) {
    return head(view).as({rows, c.heads, c.head_dim});
  };
  // Two LayerNorms a layer, so that each layer, and the whole, end in hidden_.
  const gpu::View h = head(hidden_), h2 = head(hidden2_), added = head(added_), ffn = head(ffn_);
  const auto norm = [&](const Norm& n, const gpu::View& residual, const gpu::View& y) {
    return layernorm(caps, {.x = added,
                            .weight = n.weight,
                            .bias = n.bias,
                            .residual = residual,
                            .y = y,
                            .eps = c.norm_eps});
  };
  const KvCache keys{.k = k_, .v = v_, .capacity = context_};

  gpu::Work work =
      gather(caps, {.indices = tokens_.slice(0, {rows}), .table = embedding_, .y = added});
  work += bias_add(caps, {.bias = types_.slice(0, {c.dim}), .data = added});  // all of type 0
  work += norm(embedding_norm_, positions_.slice(0, {rows, c.dim}), h);
  for (const Layer& l : layers_) {
    work += linear(h, l.qkv, head(qkv_));
    work +=
        split_qkv(caps, {.qkv = head(qkv_), .q = head(q_), .cache = keys, .head_dim = c.head_dim});
    work += attention_prefill(caps, {.q = by_head(q_),
                                     .cache = keys,
                                     .out = by_head(attended_),
                                     .kv_len = rows,
                                     .is_causal = false});
    work += linear(head(attended_), l.attn_output, added);
    work += norm(l.attn_norm, h, h2);
    work += linear(h2, l.ffn_up, ffn);
    work += gelu(caps, {.y = ffn, .erf = true});
    work += linear(ffn, l.ffn_down, added);
    work += norm(l.ffn_norm, h2, h);
  }
  return work;
}

}  // namespace ms
