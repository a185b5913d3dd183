// architecture.hpp: what tells one family of models from another: where a file has its numbers and
// its tensors, and its graph. Each has a file of its own: llama.cpp is the one to start from.
#pragma once
#include <span>

#include "model/config.hpp"
#include "model/graph.hpp"

namespace ms {

class LayerLoader;

struct Architecture {
  std::string_view name;  // general.architecture of a GGUF file
  Config (*config)(
      const ModelFile& file);         // throws Error: a missing key, a value that no model has
  Layer (*layer)(LayerLoader& load);  // throws Error: a missing tensor, or one of another shape
  void (*graph)(const DecoderWeights& weights, const Config& config, Pass& pass);
};

extern const Architecture llama, granite, qwen2, qwen3, gemma3;

std::span<const Architecture* const> architectures();

// Of architectures that differ from Llama in numbers alone.
Layer llama_layer(LayerLoader& load);
void llama_graph(const DecoderWeights& weights, const Config& config, Pass& pass);

}  // namespace ms
