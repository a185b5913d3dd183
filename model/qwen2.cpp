// qwen2.cpp: Qwen2 and Qwen2.5 (Yang et al., 2024): Llama with biases of q, k and v, and RoPE over
// pairs of a head's two halves.
#include "model/architecture.hpp"

namespace ms {

namespace {

Config config(const ModelFile& file) {
  Config c = decoder_config(file);
  c.interleaved_rope = false;
  c.qkv_bias = true;
  return c;
}

}  // namespace

const Architecture qwen2{"qwen2", config, llama_layer, llama_graph};

}  // namespace ms
