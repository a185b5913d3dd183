// llama.hpp: the Llama graph (RMSNorm, RoPE, grouped-query attention, SwiGLU; Touvron et al., 2023;
// or a mixture of SwiGLU experts: Mixtral, Jiang et al., 2024) as work.
//
// A model owns its weights, KV cache and activations in device memory. Its functions return
// gpu::Work over them: recorded once, a step never changes, since tokens and positions live in the
// slots' buffer.
#pragma once
#include <functional>
#include <vector>

#include "gpu/device.hpp"
#include "kernels/kernels.hpp"
#include "kernels/slot.hpp"
#include "model/config.hpp"
#include "model/weights.hpp"

namespace ms {

struct ModelOptions {
  uint32_t slots = 1;
  uint32_t context = 0;           // positions a slot holds; 0: the model's own, at most 4096
  uint32_t batch = 512;           // most tokens of one prefill
  bool f32_kv = false;            // the KV cache in f32, else f16
  bool int8_activations = false;  // activations rounded to int8 where weights are integers
};

class Llama {
 public:
  // progress(bytes done, bytes in all) of the weights.
  Llama(gpu::Device& device, const Config& config, const Catalog& catalog,
        const ModelOptions& options, const std::function<void(uint64_t, uint64_t)>& progress = {});

  // A step: the token of each running slot, at its position, through the model. Leaves logits().
  gpu::Work decode() const;
  // `rows` tokens of tokens(), of slot `slot`, from its position on: fills the KV cache, and
  // logits_of_rows() when wanted.
  gpu::Work prefill(uint32_t rows, uint32_t slot, bool want_logits) const;
  // Run once, at load: the tables that RoPE reads.
  gpu::Work tables() const;
  // What a step does once logits() are there: draws a token for each slot and advances it.
  gpu::Work sample(bool greedy) const;

  const Config& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  uint32_t context() const { return options_.context; }
  uint32_t logit_rows() const { return logit_rows_; }  // most rows of a prefill that wants logits

  gpu::View slots() const { return slots_; }  // [slots, 32] u32: Slot
  gpu::View history() const {
    return history_;
  }                                             // [slots, context] u32: the token at each position
  gpu::View tokens() const { return tokens_; }  // [batch] u32: what prefill reads
  gpu::View logits() const { return logits_; }  // [slots, vocab] f32
  gpu::View logits_of_rows(uint32_t rows) const;  // [rows, vocab] f32

  uint64_t bytes_per_token() const {
    return bytes_per_token_;
  }  // of weights that a decode step reads

 private:
  struct Part {  // consecutive rows of a fused matrix, of one type
    Weight weight;
    uint32_t first_row;
  };
  struct Layer {
    gpu::View attn_norm;    // [dim] f32
    std::vector<Part> qkv;  // [q_size + 2 kv_size, dim]
    Weight attn_output;     // [dim, q_size]
    gpu::View ffn_norm;     // [dim] f32
    Weight router;          // [experts, dim]; or absent, as the experts in front of the next three
    Weight gate_up;         // [(experts,) 2 ffn, dim], rows in turn; or absent, and
    Weight gate, up;        // [(experts,) ffn, dim], where their types differ
    Weight down;            // [(experts,) dim, ffn]
    KvCache cache;
  };

  // The feed-forward half of a layer of experts: adds to each row of h what its experts make of it.
  gpu::Work mixture(const Layer& l, const gpu::View& h) const;

  gpu::View tensor(gpu::Shape shape, std::string label, gpu::Type type = gpu::Type::f32);
  void load(const Catalog& catalog, const std::function<void(uint64_t, uint64_t)>& progress);
  void load_rope(const Catalog& catalog);

  gpu::Device& device_;
  Config config_;
  ModelOptions options_;
  std::vector<gpu::BufferPtr> memory_;
  uint64_t bytes_per_token_ = 0;

  Weight embedding_;  // [vocab, dim]
  std::vector<Layer> layers_;
  gpu::View output_norm_;  // [dim] f32
  Weight output_;          // [vocab, dim]; the embedding when tied
  gpu::View freqs_;        // [rotary_dim / 2, 2] u32
  float attention_factor_ = 1;
  gpu::View cos_, sin_;  // [context, rotary_dim / 2] f32

  gpu::View slots_, history_, tokens_, logits_, sampled_;
  gpu::View batch_logits_;  // [logit_rows, vocab] f32
  uint32_t logit_rows_ = 0;
  // Activations of a step and of a prefill: inputs and outputs of a dispatch are never of one
  // buffer.
  gpu::View hidden_, hidden2_, normed_, qkv_, q_, attended_, gate_up_, ffn_;  // [batch, …] f32
  // Of a mixture of experts. A row is a token at one of its experts: gate_up_ and ffn_ have as
  // many.
  gpu::View router_logits_;                // [batch, experts] f32
  gpu::View expert_ids_, expert_weights_;  // [batch, experts_used] u32, f32
  gpu::View expert_in_, expert_out_;       // [rows, dim] f32, sorted by expert
  gpu::View expert_counts_;                // [experts] u32
  gpu::View row_tokens_;                   // [rows, 2] u32
  gpu::View row_experts_;                  // [rows, 1] u32
  gpu::View token_rows_;                   // [batch, experts_used] u32
};

}  // namespace ms
