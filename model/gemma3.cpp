// gemma3.cpp: Gemma 3 (Gemma Team, 2025): Llama with norms of each head of q and k, and of what the
// halves of a layer add; a scaled embedding and GELU. Of six layers the first five see a window of
// the last positions alone, with a RoPE of their own.
#include <cmath>

#include "model/architecture.hpp"

namespace ms {

namespace {

Config config(const ModelFile& file) {
  Config c = decoder_config(file);
  c.interleaved_rope = false;
  c.qk_norm = c.post_norms = true;
  c.activation = Activation::gelu;
  c.embedding_scale = std::sqrt(float(c.dim));
  c.window = count(file, "attention.sliding_window", 1 << 24);
  c.full_period =
      uint32_t(file.find_uint(key(file, "attention.sliding_window_pattern")).value_or(6));
  c.local_rope_base = file.find_float(key(file, "rope.freq_base_swa")).value_or(10000);
  // The 27B model alone divides by its dimension for each head instead of the head's own.
  const float scale = c.layers == 62 ? 1 / std::sqrt(float(c.dim / c.heads)) : 0;
  c.attention_scale = float(file.find_float(key(file, "attention.scale")).value_or(scale));
  return c;
}

}  // namespace

const Architecture gemma3{"gemma3", config, llama_layer, llama_graph};

}  // namespace ms
