// decoder.hpp: a decoder-only transformer, of any architecture, as work.
//
// A model owns its weights, KV cache and activations in device memory. Its functions return
// gpu::Work over them: recorded once, a step never changes, since tokens and positions live in the
// slots' buffer.
#pragma once
#include <functional>
#include <string_view>
#include <vector>

#include "gpu/device.hpp"
#include "kernels/slot.hpp"
#include "model/architecture.hpp"
#include "model/weights.hpp"

namespace ms {

// The kernels of a decode step: one after the other; or, of one sequence, what a layer does between
// two attentions in one, whose workgroups wait for each other (fused_layer). Where they cannot, its
// slot is stopped as Stopped::stalled, and the step is to be taken again by a chain. Automatic: a
// chain, until someone who has tested it calls use_persistent().
enum class Step : uint8_t { automatic, chain, persistent };
constexpr std::string_view to_string(Step step) {
  return step == Step::automatic ? "auto" : step == Step::chain ? "chain" : "persistent";
}

// What a step rounds activations to where weights are integers: to 16 bits (shared/int16.wgsl),
// whose products are faster where dot4I8Packed is an instruction. Automatic: there, and on no CPU.
enum class ActivationType : uint8_t { automatic, f32, int16 };
constexpr std::string_view to_string(ActivationType type) {
  return type == ActivationType::automatic ? "auto" : type == ActivationType::f32 ? "f32" : "int16";
}

struct ModelOptions {
  uint32_t slots = 1;
  uint32_t context = 0;  // positions a slot holds; 0: the model's own, at most 4096
  uint32_t batch = 512;  // most tokens of one prefill
  KvType kv_type = KvType::f16;
  ActivationType activations = ActivationType::automatic;  // of an open model, never automatic
  Step step = Step::automatic;                             // of an open model, never automatic
  uint32_t step_groups = 0;  // workgroups of a persistent step; 0: chosen
};

class Decoder {
 public:
  // All has its place then, but weights come with load(): until then the catalog and its file must
  // be there. progress(bytes done, bytes in all) of the weights.
  Decoder(gpu::Device& device, const Config& config, const Catalog& catalog,
          const ModelOptions& options,
          const std::function<void(uint64_t, uint64_t)>& progress = {});

  // Reads the weights, once; works of the model may be recorded before, but not submitted.
  void load();

  // A step: the token of each running one of the first `slots` slots, at its position, through the
  // model. Leaves their logits().
  gpu::Work decode(uint32_t slots) const;
  // `rows` tokens of tokens(), of slot `slot`, from its position on: fills the KV cache, and what
  // is wanted besides: logits_of_rows() or states_of_rows().
  enum class Want : uint8_t { nothing, logits, states };
  gpu::Work prefill(uint32_t rows, uint32_t slot, Want want) const;
  // What was run once, at load: the tables that RoPE reads.
  const gpu::Work& tables() const { return tables_; }
  // What a step does once logits() are there: draws a token for each of those slots and advances
  // it. Greedy takes the likeliest whatever the slots say. A mask or a bias is as sample_topk has
  // it.
  gpu::Work sample(uint32_t slots, bool greedy, const gpu::View& mask = {},
                   const gpu::View& bias = {}) const;

  const Config& config() const { return config_; }
  const ModelOptions& options() const { return options_; }
  // From now on decode() is a chain; or persistent, of so many workgroups or 0: chosen, unless this
  // model cannot have such steps here, for the reason that is returned.
  void use_chain() { options_.step = Step::chain; }
  std::string use_persistent(uint32_t groups);
  uint32_t context() const { return options_.context; }
  uint32_t logit_rows() const { return logit_rows_; }  // most rows of a prefill that wants logits

  gpu::View slots() const { return slots_; }  // [slots, 32] u32: Slot
  gpu::View history() const {
    return history_;
  }                                             // [slots, context] u32: the token at each position
  gpu::View tokens() const { return tokens_; }  // [batch] u32: what prefill reads
  gpu::View logits() const { return logits_; }  // [slots, vocab] f32
  gpu::View logits_of_rows(uint32_t rows) const;  // [rows, vocab] f32
  gpu::View states_of_rows(uint32_t rows) const;  // [rows, dim] f32, after the last norm

  // What loading the weights took, and their bytes on the device.
  double load_seconds() const { return load_seconds_; }
  uint64_t weight_bytes() const { return weight_bytes_; }
  uint64_t bytes_per_token() const {
    return bytes_per_token_;
  }  // of weights that a decode step reads

 private:
  gpu::View tensor(gpu::Shape shape, std::string label, gpu::Type type = gpu::Type::f32);
  void place(const Catalog& catalog);
  // Whether a persistent step may be one dispatch, from the first layer to the last.
  bool takes_whole_steps() const;
  // A table [2, positions, rotary_dim / 2] of cosines and sines, which tables_ fill.
  gpu::View rope_table(double base, const RopeScaling& scaling, const std::string& source);

  gpu::Device& device_;
  Config config_;
  ModelOptions options_;
  std::unique_ptr<WeightLoader> loader_;  // until load()
  std::vector<gpu::BufferPtr> memory_;
  double load_seconds_ = 0;
  uint64_t weight_bytes_ = 0, bytes_per_token_ = 0;

  DecoderWeights weights_;
  gpu::Work tables_;
  Activations activations_;
  gpu::View slots_, history_, tokens_, logits_, sampled_;
  gpu::View batch_logits_;  // [logit_rows, vocab] f32
  uint32_t logit_rows_ = 0;
  bool whole_steps_ = false;
};

}  // namespace ms
