// encoder.hpp: an encoder of BERT's family (Devlin et al., 2019) as work: a text's tokens, all of
// which see each other, to a state each.
//
// Embeddings of token, position and type, a LayerNorm; in each layer attention and a feed-forward
// network of two matrices with GELU, each followed by a LayerNorm of the sum (post-norm).
#pragma once
#include <functional>
#include <vector>

#include "gpu/device.hpp"
#include "model/weights.hpp"

namespace ms {

// Whether a file's architecture is an encoder's. Then its numbers: throws Error as config_of does.
bool is_encoder(const ModelFile& file);
Config encoder_config(const ModelFile& file);

class Encoder {
 public:
  // Of texts of up to `context` tokens; 0: as many as the model has positions. progress(bytes done,
  // bytes in all) of the weights.
  Encoder(gpu::Device& device, const Config& config, const Catalog& catalog, uint32_t context,
          const std::function<void(uint64_t, uint64_t)>& progress = {});

  // `rows` tokens of tokens(), up to context(), to states(rows).
  gpu::Work encode(uint32_t rows) const;

  const Config& config() const { return config_; }
  uint32_t context() const { return context_; }
  gpu::View tokens() const { return tokens_; }  // [context] u32
  gpu::View states(uint32_t rows) const { return hidden_.slice(0, {rows, config_.dim}); }

 private:
  struct Norm {
    gpu::View weight, bias;  // [dim] f32
  };
  struct Layer {
    Linear qkv, attn_output, ffn_up, ffn_down;
    Norm attn_norm, ffn_norm;
  };
  gpu::View tensor(gpu::Shape shape, std::string label, gpu::Type type = gpu::Type::f32);
  gpu::Work linear(const gpu::View& x, const Linear& weight, const gpu::View& y) const;

  gpu::Device& device_;
  Config config_;
  uint32_t context_;
  std::vector<gpu::BufferPtr> memory_;
  Weight embedding_;             // [vocab, dim]
  gpu::View positions_, types_;  // [context, dim], [types, dim] f32
  Norm embedding_norm_;
  std::vector<Layer> layers_;
  gpu::View tokens_, hidden_, hidden2_, added_;  // [context, dim]
  gpu::View qkv_, q_, k_, v_, attended_, ffn_;   // [context, …]
};

}  // namespace ms
