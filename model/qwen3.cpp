// qwen3.cpp: Qwen3 (Yang et al., 2025): Llama with a norm of each head of q and k, and RoPE over
// pairs of a head's two halves.
#include "model/architecture.hpp"

namespace ms {

namespace {

Config config(const ModelFile& file) {
  Config c = decoder_config(file);
  c.interleaved_rope = false;
  c.qk_norm = true;
  return c;
}

}  // namespace

const Architecture qwen3{"qwen3", config, llama_layer, llama_graph};

}  // namespace ms
