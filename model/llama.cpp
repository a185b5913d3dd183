// llama.cpp: Llama (Touvron et al., 2023), and what is built like it: Mistral, SmolLM2; Mixtral
// (Jiang et al., 2024), whose feed-forward networks are mixtures of experts.
//
// Another architecture is a file like this one, a line in architecture.hpp and its name in the list
// of architecture.cpp.
#include "kernels/topk/topk.hpp"
#include "model/architecture.hpp"
#include "model/weights.hpp"

namespace ms {

namespace {

Config config(const ModelFile& file) {
  Config c = decoder_config(file);
  // Mistral 7B's first version.
  if (file.find_uint(key(file, "attention.sliding_window")).value_or(0))
    c.window = count(file, "attention.sliding_window", 1 << 24);
  if (file.find_uint(key(file, "expert_count")).value_or(0)) {
    c.experts = count(file, "expert_count", TopK::most_experts);
    c.experts_used = count(file, "expert_used_count", TopK::most_experts);
    if (c.experts_used > c.experts)
      fail("{}: {} is {}, of {} experts", file.path().string(), key(file, "expert_used_count"),
           c.experts_used, c.experts);
    if (c.dim % 4 != 0 || c.ffn % 4 != 0)
      fail("{}: experts from {} to {} dimensions; the kernels take multiples of 4",
           file.path().string(), c.dim, c.ffn);
  }
  return c;
}

}  // namespace

Layer llama_layer(LayerLoader& load) {
  const Config& c = load.config();
  Layer l;
  l.attn_norm = load.vector("attn_norm.weight", c.dim);
  l.qkv = load.qkv();
  if (c.qk_norm) l.qk_norms = load.qk_norms();
  l.attn_output = load.matrix("attn_output.weight", {c.dim, c.q_size()});
  if (c.post_norms) l.post_attn_norm = load.vector("post_attention_norm.weight", c.dim);
  l.ffn_norm = load.vector("ffn_norm.weight", c.dim);
  if (c.experts) l.router = load.matrix("ffn_gate_inp.weight", {c.experts, c.dim});
  l.ffn = load.gated_ffn();
  if (c.post_norms) l.post_ffn_norm = load.vector("post_ffw_norm.weight", c.dim);
  return l;
}

void llama_graph(const DecoderWeights& weights, const Config& c, Pass& pass) {
  pass.embed(weights.embedding);
  for (uint32_t i = 0; i < c.layers; ++i) {
    const Layer& l = weights.layers[i];
    const uint32_t window = c.window_of(i);
    pass.qkv(l.attn_norm, l.qkv);
    pass.rope(l.cache, window ? weights.local_rope : weights.rope, l.qk_norms);
    if (pass.fills_cache_only() && i + 1 == c.layers) return;
    pass.attention(l.cache, window, l.attn_output, l.post_attn_norm);
    if (l.router)
      pass.mixture(l.ffn_norm, l.router, l.ffn);
    else
      pass.feed_forward(l.ffn_norm, l.ffn, l.post_ffn_norm);
  }
  pass.logits(weights.output_norm, weights.output);
}

const Architecture llama{"llama", config, llama_layer, llama_graph};

}  // namespace ms
