// config.cpp: hyperparameters, bounded before anything is allocated by them.
#include "model/config.hpp"

#include "kernels/topk/topk.hpp"

namespace ms {

namespace {

// A count from the metadata; an Error outside [1, most].
uint32_t bounded(const Gguf& file, const std::string& key, uint64_t value, uint64_t most) {
  if (value == 0 || value > most)
    fail("{}: {} is {}; a model has 1 to {}", file.path().string(), key, value, most);
  return uint32_t(value);
}

RopeScaling scaling(const Gguf& file) {
  RopeScaling s;
  const auto type = file.find_string("llama.rope.scaling.type").value_or("none");
  if (type == "none") return s;
  if (type == "linear")
    s.mode = RopeScaling::Mode::linear;
  else if (type == "yarn")
    s.mode = RopeScaling::Mode::yarn;
  else
    fail("{}: llama.rope.scaling.type \"{}\" is not known here (none, linear, yarn)",
         file.path().string(), type);
  s.factor = file.get_float("llama.rope.scaling.factor");
  s.original_context = file.find_float("llama.rope.scaling.original_context_length").value_or(0);
  return s;
}

}  // namespace

Config llama_config(const Gguf& file) {
  const std::string_view arch = file.get_string("general.architecture");
  if (arch != "llama")
    fail("{}: architecture \"{}\" is not supported; llama is", file.path().string(), arch);
  const auto count = [&](const std::string& key, uint64_t most) {
    return bounded(file, key, file.get_uint(key), most);
  };
  const auto count_or = [&](const std::string& key, uint64_t otherwise, uint64_t most) {
    return bounded(file, key, file.find_uint(key).value_or(otherwise), most);
  };

  Config c;
  c.name = std::string(file.find_string("general.name").value_or(file.path().stem().string()));
  c.dim = count("llama.embedding_length", 1 << 17);
  c.layers = count("llama.block_count", 1024);
  c.heads = count("llama.attention.head_count", 1024);
  c.kv_heads = count_or("llama.attention.head_count_kv", c.heads, 1024);
  c.head_dim = count_or("llama.attention.key_length", c.dim / c.heads, 256);
  c.rotary_dim = count_or("llama.rope.dimension_count", c.head_dim, 256);
  c.ffn = count("llama.feed_forward_length", 1 << 20);
  if (const uint64_t experts = file.find_uint("llama.expert_count").value_or(0)) {
    c.experts = bounded(file, "llama.expert_count", experts, TopK::most_experts);
    c.experts_used = count("llama.expert_used_count", TopK::most_experts);
    if (c.experts_used > c.experts)
      fail("{}: llama.expert_used_count is {}, of {} experts", file.path().string(), c.experts_used,
           c.experts);
    if (c.dim % 4 != 0 || c.ffn % 4 != 0)
      fail("{}: experts from {} to {} dimensions; the kernels take multiples of 4",
           file.path().string(), c.dim, c.ffn);
  }
  c.context = count("llama.context_length", 1 << 24);
  c.norm_eps = float(file.get_float("llama.attention.layer_norm_rms_epsilon"));
  c.rope_base = file.find_float("llama.rope.freq_base").value_or(10000);
  c.rope_scaling = scaling(file);
  if (c.heads % c.kv_heads != 0)
    fail("{}: {} heads do not divide among {} KV heads", file.path().string(), c.heads, c.kv_heads);
  if (c.rotary_dim > c.head_dim || c.rotary_dim % 2 != 0)
    fail("{}: RoPE over {} of a head's {} dimensions", file.path().string(), c.rotary_dim,
         c.head_dim);
  if (!(c.norm_eps >= 0 && c.norm_eps < 1))
    fail("{}: llama.attention.layer_norm_rms_epsilon is {}", file.path().string(), c.norm_eps);
  if (!(c.rope_base > 1)) fail("{}: llama.rope.freq_base is {}", file.path().string(), c.rope_base);

  const TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (!embedding) fail("{}: there is no tensor token_embd.weight", file.path().string());
  c.vocab = bounded(file, "the number of rows of token_embd.weight", embedding->rows(), 1 << 24);
  return c;
}

Config config_by_name(std::string_view name) {
  Config c{.name = std::string(name),
           .vocab = 128256,
           .head_dim = 128,
           .rotary_dim = 128,
           .context = 131072,
           .rope_base = 500000};
  if (name == "llama-8b")
    return c.dim = 4096, c.layers = 32, c.heads = 32, c.kv_heads = 8, c.ffn = 14336, c;
  if (name == "llama-1b")
    return c.dim = 2048, c.layers = 16, c.heads = 32, c.kv_heads = 8,
           c.head_dim = c.rotary_dim = 64, c.ffn = 8192, c;
  if (name == "mixtral-8x7b")
    return c.vocab = 32000, c.dim = 4096, c.layers = 32, c.heads = 32, c.kv_heads = 8,
           c.ffn = 14336, c.experts = 8, c.experts_used = 2, c.context = 32768, c.rope_base = 1e6,
           c;
  throw std::invalid_argument(
      fmt::format("no shape \"{}\": there are llama-8b, llama-1b and mixtral-8x7b", name));
}

}  // namespace ms
