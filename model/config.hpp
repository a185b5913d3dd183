// config.hpp: the hyperparameters of a decoder, read from a file's metadata and checked.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "formats/model_file.hpp"
#include "kernels/fused_ffn/fused_ffn.hpp"
#include "kernels/rope_init/rope_init.hpp"

namespace ms {

struct Architecture;

// How the states of a text's tokens become its embedding, as GGUF numbers them: their mean, the
// first, or the last.
enum class Pooling : uint32_t { mean = 1, cls = 2, last = 3 };

extern const Architecture llama;

struct Config {
  const Architecture* architecture = &llama;
  std::string name;  // for people
  uint32_t vocab = 0;
  uint32_t dim = 0;  // of the residual stream
  uint32_t layers = 0;
  uint32_t heads = 0;
  uint32_t kv_heads = 0;  // divides heads
  uint32_t head_dim = 0;
  uint32_t rotary_dim = 0;    // leading dimensions of a head that RoPE turns
  uint32_t ffn = 0;           // of each expert, where there are any
  uint32_t experts = 0;       // of a layer; 0: one feed-forward network for every token
  uint32_t experts_used = 0;  // by a token
  uint32_t context = 0;       // positions that the model was trained for
  float norm_eps = 1e-5f;
  double rope_base = 10000;
  RopeScaling rope_scaling = {};
  bool interleaved_rope = true;  // pairs (2i, 2i + 1); else (i, i + rotary_dim / 2)
  uint32_t window = 0;       // keys that windowed layers see, the query's own included; 0: none is
  uint32_t full_period = 0;  // every so manieth layer is not windowed; 0: all are
  double local_rope_base = 0;  // of windowed layers, without scaling; 0: their RoPE is the others'
  bool qkv_bias = false;       // there must be biases of q, k and v
  bool qk_norm = false;        // each head of q and of k is normed before RoPE
  bool post_norms = false;     // what a layer's halves add is normed
  Activation activation = Activation::silu;
  float embedding_scale = 1;
  float residual_scale = 1;   // of what a layer's halves add to the residual stream
  float attention_scale = 0;  // 0: 1 / sqrt(head_dim)
  float logit_scale = 1;
  Pooling pooling = Pooling::last;
  uint32_t longest_text = 0;  // tokens of a text to embed, the rest of which is cut off; 0: none is

  uint32_t q_size() const { return heads * head_dim; }
  uint32_t kv_size() const { return kv_heads * head_dim; }
  // Of layer i; 0: it sees all keys.
  uint32_t window_of(uint32_t i) const {
    return full_period && (i + 1) % full_period == 0 ? 0 : window;
  }
};

// Of a GGUF file, by its architecture. Throws Error: an architecture that is not supported, a
// missing key, a value that no model has.
Config config_of(const ModelFile& file);

// For architectures. The numbers that every decoder has, under the name of the file's architecture.
Config decoder_config(const ModelFile& file);
// "llama.context_length" of "context_length", for a file of that architecture.
std::string key(const ModelFile& file, std::string_view name);
// The count under a key; an Error outside [1, most].
uint32_t count(const ModelFile& file, std::string_view name, uint64_t most);

// The rows of the embedding; what keeps norms from dividing by 0, under this name. Throw Error.
uint32_t vocabulary(const ModelFile& file);
float norm_epsilon(const ModelFile& file, std::string_view name);
// The pooling that a file asks for. Throws Error for one that is none of the above.
Pooling pooling_of(const ModelFile& file, Pooling otherwise);

// A well-known shape by name: "llama-8b" (Llama 3.1), "llama-1b" (Llama 3.2), "mixtral-8x7b".
// Throws std::invalid_argument that lists them.
Config config_by_name(std::string_view name);

}  // namespace ms
