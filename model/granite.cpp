// granite.cpp: Granite (Granite 3.0 language models, IBM, 2024): Llama with four scales.
#include <cmath>

#include "model/architecture.hpp"

namespace ms {

namespace {

Config config(const ModelFile& file) {
  Config c = decoder_config(file);
  const auto scale = [&](std::string_view name, float otherwise) {
    const std::string full = key(file, name);
    const float value = float(file.find_float(full).value_or(otherwise));
    if (!std::isfinite(value) || value <= 0)
      fail("{}: {} is {}", file.path().string(), full, value);
    return value;
  };
  c.embedding_scale = scale("embedding_scale", 1);
  c.residual_scale = scale("residual_scale", 1);
  c.attention_scale = scale("attention.scale", 1 / std::sqrt(float(c.head_dim)));
  c.logit_scale = 1 / scale("logit_scale", 1);  // logits are divided by it
  return c;
}

}  // namespace

const Architecture granite{"granite", config, llama_layer, llama_graph};

}  // namespace ms
