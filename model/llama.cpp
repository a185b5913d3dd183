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

Config config(const Gguf& file) {
  Config c = decoder_config(file);
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
  return {.attn_norm = load.vector("attn_norm.weight", c.dim),
          .qkv = load.qkv(),
          .attn_output = load.matrix("attn_output.weight", {c.dim, c.q_size()}),
          .ffn_norm = load.vector("ffn_norm.weight", c.dim),
          .router = c.experts ? load.matrix("ffn_gate_inp.weight", {c.experts, c.dim}) : Weight{},
          .ffn = load.gated_ffn()};
}

void llama_graph(const DecoderWeights& weights, const Config& c, Pass& pass) {
  pass.embed(weights.embedding, c.embedding_scale);
  for (const Layer& l : weights.layers) {
    pass.qkv(l.attn_norm, l.qkv);
    pass.rope(l.cache, weights.rope, c.interleaved_rope);
    if (pass.fills_cache_only() && &l == &weights.layers.back()) return;
    pass.attention(l.cache, c.attention_scale, l.attn_output, c.residual_scale);
    if (l.router)
      pass.mixture(l.ffn_norm, l.router, l.ffn);
    else
      pass.feed_forward(l.ffn_norm, l.ffn, c.residual_scale);
  }
  pass.logits(weights.output_norm, weights.output, c.logit_scale);
}

const Architecture llama{"llama", config, llama_layer, llama_graph};

}  // namespace ms
