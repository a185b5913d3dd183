// config.cpp: hyperparameters, bounded before anything is allocated by them.
#include "model/config.hpp"

#include "model/architecture.hpp"

namespace ms {

namespace {

// A value, named for the message.
uint32_t bounded(const ModelFile& file, std::string_view name, uint64_t value, uint64_t most) {
  if (value == 0 || value > most)
    fail("{}: {} is {}; a model has 1 to {}", file.path().string(), name, value, most);
  return uint32_t(value);
}

RopeScaling scaling(const ModelFile& file) {
  const auto of = [&](std::string_view name) {
    return key(file, "rope.scaling.") + std::string(name);
  };
  RopeScaling s;
  const auto type = file.find_string(of("type")).value_or("none");
  if (type == "none") return s;
  if (type == "linear")
    s.mode = RopeScaling::Mode::linear;
  else if (type == "yarn")
    s.mode = RopeScaling::Mode::yarn;
  else
    fail("{}: {} \"{}\" is not known here (none, linear, yarn)", file.path().string(), of("type"),
         type);
  s.factor = file.get_float(of("factor"));
  s.original_context = file.find_float(of("original_context_length")).value_or(0);
  return s;
}

}  // namespace

std::string key(const ModelFile& file, std::string_view name) {
  return fmt::format("{}.{}", file.get_string("general.architecture"), name);
}

uint32_t count(const ModelFile& file, std::string_view name, uint64_t most) {
  const std::string full = key(file, name);
  return bounded(file, full, file.get_uint(full), most);
}

uint32_t vocabulary(const ModelFile& file) {
  const TensorInfo* embedding = file.find_tensor("token_embd.weight");
  if (!embedding) fail("{}: there is no tensor token_embd.weight", file.path().string());
  return bounded(file, "the number of rows of token_embd.weight", embedding->rows(), 1 << 24);
}

float norm_epsilon(const ModelFile& file, std::string_view name) {
  const std::string full = key(file, name);
  const float epsilon = float(file.get_float(full));
  if (!(epsilon >= 0 && epsilon < 1)) fail("{}: {} is {}", file.path().string(), full, epsilon);
  return epsilon;
}

Pooling pooling_of(const ModelFile& file, Pooling otherwise) {
  const uint64_t type = file.find_uint(key(file, "pooling_type")).value_or(0);
  if (type > 3)
    fail("{}: {} is {}; there are 1 (mean), 2 (the first token) and 3 (the last)",
         file.path().string(), key(file, "pooling_type"), type);
  return type ? Pooling(type) : otherwise;
}

Config config_of(const ModelFile& file) {
  const std::string_view name = file.get_string("general.architecture");
  std::string names;
  for (const Architecture* a : architectures()) {
    if (a->name == name) {
      Config config = a->config(file);
      config.architecture = a;
      return config;
    }
    names += fmt::format("{}{}", names.empty() ? "" : ", ", a->name);
  }
  fail("{}: architecture \"{}\" is not supported; there are {}", file.path().string(), name, names);
}

Config decoder_config(const ModelFile& file) {
  const auto count_or = [&](std::string_view name, uint64_t otherwise, uint64_t most) {
    const std::string full = key(file, name);
    return bounded(file, full, file.find_uint(full).value_or(otherwise), most);
  };

  Config c;
  c.name = std::string(file.find_string("general.name").value_or(file.path().stem().string()));
  c.dim = count(file, "embedding_length", 1 << 17);
  c.layers = count(file, "block_count", 1024);
  c.heads = count(file, "attention.head_count", 1024);
  c.kv_heads = count_or("attention.head_count_kv", c.heads, 1024);
  c.head_dim = count_or("attention.key_length", c.dim / c.heads, 256);
  c.rotary_dim = count_or("rope.dimension_count", c.head_dim, 256);
  c.ffn = count(file, "feed_forward_length", 1 << 20);
  c.context = count(file, "context_length", 1 << 24);
  c.pooling = pooling_of(file, Pooling::last);
  c.norm_eps = norm_epsilon(file, "attention.layer_norm_rms_epsilon");
  const std::string base = key(file, "rope.freq_base");
  c.rope_base = file.find_float(base).value_or(10000);
  c.rope_scaling = scaling(file);
  c.interleaved_rope = file.find_bool(key(file, "rope.interleaved")).value_or(true);
  if (c.heads % c.kv_heads != 0)
    fail("{}: {} heads do not divide among {} KV heads", file.path().string(), c.heads, c.kv_heads);
  if (c.rotary_dim > c.head_dim || c.rotary_dim % 2 != 0)
    fail("{}: RoPE over {} of a head's {} dimensions", file.path().string(), c.rotary_dim,
         c.head_dim);
  if (!(c.rope_base > 1)) fail("{}: {} is {}", file.path().string(), base, c.rope_base);

  c.vocab = vocabulary(file);
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
