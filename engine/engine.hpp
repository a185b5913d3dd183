// engine.hpp: a model on a device, from tokens to tokens and text: loading, prefill, the decode
// loop, stopping.
//
// One generation at a time, by one thread. A lost device is an Error, after which the Engine is of
// no use. Sampling, Request and Generation are those of mainspring.hpp.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gpu/device.hpp"
#include "mainspring.hpp"
#include "model/decoder.hpp"
#include "model/encoder.hpp"
#include "text/chat_template.hpp"
#include "text/tokenizer.hpp"

namespace ms {

struct EngineOptions {
  std::filesystem::path model;     // a GGUF file, or a folder from Hugging Face
  gpu::DeviceOptions device = {};  // sources are the engine's own
  ModelOptions options = {};
  // What is being done, how much of it, of how much: "weights" in bytes, "pipelines" in number, and
  // "trial" in steps.
  std::function<void(std::string_view, uint64_t, uint64_t)> progress = {};
  // What a user should know although nothing failed.
  std::function<void(std::string_view)> notice = {};
};

// Throws std::invalid_argument for a senseless parameter.
void check_sampling(const Sampling& sampling);

class Engine {
 public:
  // Loads a model. Throws Error: no device, file missing, broken or not supported, device memory
  // short.
  explicit Engine(const EngineOptions& options);
  // A model of random weights (Catalog::synthetic): no tokenizer. For benchmarks.
  Engine(const EngineOptions& options, const Config& config, std::string_view type, bool tied);

  gpu::Device& device() { return *device_; }
  // Throws Error for an encoder, which makes embeddings alone.
  Decoder& model() const;
  bool is_encoder() const { return encoder_ != nullptr; }
  const Config& config() const { return encoder_ ? encoder_->config() : model_->config(); }
  uint32_t context() const { return encoder_ ? encoder_->context() : model_->context(); }
  // Whether another -c would hold more.
  bool can_be_longer() const { return !encoder_ || encoder_->context() < config().context; }
  const Tokenizer& tokenizer() const;  // throws Error without one
  const ChatTemplate* chat_template() const { return template_ ? &*template_ : nullptr; }

  // The tokens of a prompt: as it is, or as one user turn (after an optional system turn) by the
  // chat template, which alone may write special tokens: their names in messages are text. A
  // conversation begins with BOS once where texts do, whether its template writes it or not.
  // An encoder's text is cut where its folder says so (max_seq_length) and the context holds that.
  std::vector<uint32_t> encode(std::string_view text) const;
  std::vector<uint32_t> encode_chat(const ChatTemplate::Json& messages,
                                    const ChatTemplate::Options& options = {}) const;

  // Continues a prompt, of which only what differs from what the KV cache holds is evaluated: text
  // of this or an earlier generation. on_text(piece) gets text that is whole characters and no part
  // of a stop string; keep_going() is asked after each batch of the prompt and each token. Either
  // may return false to end the generation. Throws Error when the prompt is empty or does not fit
  // the context, or when no logit is a number; GrammarError for a constraint that cannot be used or
  // followed;
  // std::invalid_argument for a token outside the vocabulary or a senseless parameter.
  Generation generate(std::span<const uint32_t> prompt, const Request& request,
                      const OnText& on_text = {}, const std::function<bool()>& keep_going = {});

  // Logits [rows.size(), vocab] at these positions of a sequence, evaluated `batch` tokens at a
  // time; 1 goes through the decode step.
  std::vector<float> logits(std::span<const uint32_t> tokens, std::span<const uint32_t> rows,
                            uint32_t batch);
  // The same for all positions from `first_row` on, as they come: on_rows(first position, logits
  // [rows, vocab]).
  void each_logits(std::span<const uint32_t> tokens, uint32_t first_row, uint32_t batch,
                   const std::function<void(uint32_t, std::span<const float>)>& on_rows);

  // What a text means, as a vector of length 1: its states, [tokens, dim], pooled as the model
  // wants. Of an encoder (BERT) or a decoder. Throws Error when there are no tokens, or more than
  // the context holds.
  std::vector<float> embed(std::span<const uint32_t> tokens);
  // The states themselves: of the last layer, for a decoder after its last norm.
  std::vector<float> states(std::span<const uint32_t> tokens);

  // Evaluates tokens from position `start` of a slot on, into the KV cache. Does not wait, but with
  // keep_going: for each batch, then asks. False if that was told to end.
  bool prefill(std::span<const uint32_t> tokens, uint32_t start,
               const std::function<bool()>& keep_going = {}, uint32_t slot = 0);
  // The recorded step of the first `slots` slots: decode, sample, advance.
  const gpu::Recording& step(bool greedy, uint32_t slots = 1);
  // Whether slot 0's step was a persistent one that has stalled (model/decoder.hpp): it left
  // nothing that counts.
  bool stalled();
  // The same by a chain from now on, as the engine's own loops do after that, and gives notice.
  void fall_back();
  // Takes steps by a chain from now on; or persistently, as Decoder::use_persistent() has it.
  void use_chain();
  std::string use_persistent(uint32_t groups);
  // For steps of the caller's own, after which what slot 0 of the KV cache holds counts as unknown.
  void write_slot(const Slot& slot, uint32_t index = 0);

 private:
  Engine(const EngineOptions& options, bool);  // what all have
  void open_device(gpu::DeviceOptions options);
  // The tokenizer and the chat template, where the file has them.
  void read_text(const ModelFile& file, uint32_t vocab);
  void load(const Config& config, const Catalog& catalog, const ModelOptions& options);
  // Persistent steps where a test finds them right and faster: now, or when this device had it of
  // these kernels and shapes. Whether that is decided, which without `may_test` it may not be.
  bool choose_step(bool may_test);
  std::function<void(uint64_t, uint64_t)> weights_progress() const;
  const gpu::Recording& prefill_recording(uint32_t rows, Decoder::Want want, uint32_t slot = 0);
  const gpu::Recording& decode_recording();
  // The sampler and what advances the slot, under a mask and a bias of so many tokens.
  const gpu::Recording& guided_sampler(bool masked, uint32_t biases);
  gpu::Recording record(gpu::Work work);
  void set_slot(const Slot& slot, uint32_t index = 0);
  void check_tokens(std::span<const uint32_t> tokens) const;

  std::function<void(std::string_view, uint64_t, uint64_t)> progress_;
  std::filesystem::path tuning_folder_;
  std::function<void(std::string_view)> notice_;
  std::unique_ptr<gpu::Device> device_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatTemplate> template_;
  std::map<char, std::vector<std::string>> control_names_;  // of tokens, by first characters
  std::unique_ptr<Decoder> model_;
  std::vector<uint32_t> evaluated_;   // tokens whose keys and values slot 0 holds, from position 0
  std::unique_ptr<Encoder> encoder_;  // instead of model_
  std::map<std::tuple<uint32_t, Decoder::Want, uint32_t>, gpu::Recording>
      prefills_;  // by rows, what is wanted, and slot; an encoder's, too
  std::map<std::pair<bool, uint32_t>, gpu::Recording> steps_;  // by whether greedy, and slots
  std::optional<gpu::Recording> decode_;
  gpu::BufferPtr mask_, bias_;  // of guided steps
  std::optional<gpu::Recording> sampler_;
  std::pair<bool, uint32_t> sampler_form_ = {};  // whether masked, and tokens biased
};

}  // namespace ms
