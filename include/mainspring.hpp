// mainspring.hpp: the public face of the library: language models on any GPU through WebGPU.
//
//   auto model = ms::Model::load({.model = "model.gguf"});
//   model.chat({{"user", "Why is the sky blue?"}}, {},
//              [](std::string_view text) { std::cout << text << std::flush; return true; });
//
// Throws std::invalid_argument for the caller's mistakes, std::runtime_error for the world's.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ms {
class Engine;  // not exported
}

#pragma GCC visibility push(default)
namespace ms {

// The library's version, "major.minor.patch".
std::string_view version();

// How tokens are drawn. In order: penalties, temperature, top-k, top-p over what it kept, min-p.
struct Sampling {
  float temperature = 0.8f;  // 0: greedy
  uint32_t top_k = 40;       // 0: the whole vocabulary
  float top_p = 0.95f;       // 1: off
  float min_p = 0.05f;       // 0: off
  float repeat_penalty = 1;  // 1: off
  float presence_penalty = 0;
  float frequency_penalty = 0;
  uint32_t repeat_last_n = 64;  // tokens that the penalties look back; 0: off
  uint32_t seed = 0;            // the same seed on the same device draws the same tokens
};

// A form that the generated text is held to: tokens that would leave it are never drawn. Where it
// can only end, so does the generation.
struct Constraint {
  enum class Kind {
    json_object,  // any object; of no text
    json_schema,  // of JSON Schema what llguidance supports; properties in the schema's order, and
                  // no others unless additionalProperties says so
    regex,        // that the whole text matches, in the syntax of Rust's regex
    lark,         // a grammar in llguidance's dialect of Lark, from the rule `start`
  };
  Kind kind = Kind::json_object;
  std::string text = {};
  std::vector<std::string> schemas =
      {};  // of JSON, that a Lark grammar names schema_0, schema_1, …
  // Not empty: text is free until this comes, which may be a special token's name, and is held to
  // the form from there on, this included. It may never come, or go on in another way than the
  // form: then all is free.
  std::string from = {};
  bool from_first = false;  // `from` counts at the beginning alone, white space apart
};

// Logarithms of probabilities are natural, of the model's own distribution: before bias,
// constraint, penalties, temperature and the rest of Sampling.
struct TokenLogprob {
  uint32_t token;
  std::string bytes;  // perhaps part of a character; of a special token, its name
  float logprob;
};
struct TokenReport {
  TokenLogprob drawn;
  std::vector<TokenLogprob> likeliest;  // likeliest first
  // First bytes of the drawn that the text leaves out: all of a special token's name.
  size_t hidden = 0;
};

struct Request {
  Sampling sampling = {};
  int64_t max_tokens = -1;             // -1: until the model stops or the context is full
  std::vector<std::string> stop = {};  // strings that end the text and are not part of it
  bool ignore_eos = false;             // stop tokens do not stop
  // What follows draws tokens one by one, which takes longer than steps that run ahead.
  std::optional<Constraint> constraint = {};
  std::map<uint32_t, float> logit_bias = {};  // of tokens, at most 1024: added to their logits
  int32_t logprobs = -1;  // -1: no reports; else with as many of the likeliest tokens, at most 20
  std::function<void(const TokenReport&)> on_report = {};  // of each token, before its text
};

// stop_token: or the end of the constraint.
enum class Finish { stop_token, stop_string, max_tokens, context_full, cancelled };

struct Generation {
  std::string text;                  // all that was handed out
  std::vector<uint32_t> tokens;      // generated, the stop token included
  std::vector<TokenReport> reports;  // of each, where the request has logprobs
  Finish finish = Finish::max_tokens;
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;   // of these, known from earlier generations: not evaluated again
  double record_seconds = 0;    // compiling and recording what this prompt's length needs, if new
  double prompt_seconds = 0;    // until the prompt but its last token was in the cache
  double generate_seconds = 0;  // from then to the last token
};

// Text as it comes: whole characters, no part of a stop string. False ends the generation.
using OnText = std::function<bool(std::string_view)>;

struct Message {
  std::string role;  // "system", "user", "assistant"
  std::string content;
};

struct LoadOptions {
  std::filesystem::path model;       // a GGUF file, or a folder from Hugging Face
  std::string device = {};           // number or part of the name of an adapter; empty: the first
  uint32_t context = 0;              // positions; 0: the model's own, of a decoder at most 4096
  std::string kv_type = "f16";       // of a decoder's KV cache: "f16", "f32" or "q8_0"
  std::filesystem::path cache = {};  // folder to keep compiled pipelines in; empty: none
  // What is being done ("weights": bytes, "pipelines": number), how much of it, of how much.
  std::function<void(std::string_view, uint64_t, uint64_t)> progress = {};
};

// A loaded model. One generation at a time, by one thread. What begins as an earlier one did, as
// each turn of a conversation does, is evaluated from where it differs. After a lost device it is
// of no use.
class Model {
 public:
  static Model load(const LoadOptions& options);
  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

  // Continues a text, or replies to a conversation by the model's own chat template.
  Generation generate(std::string_view prompt, const Request& request = {},
                      const OnText& on_text = {});
  Generation chat(const std::vector<Message>& messages, const Request& request = {},
                  const OnText& on_text = {});
  bool has_chat_template() const;

  // With the special tokens that the model wants around a text; text is never read as special.
  std::vector<uint32_t> tokenize(std::string_view text) const;
  // Special tokens are left out.
  std::string detokenize(std::span<const uint32_t> tokens) const;

  uint32_t context() const;     // positions
  uint32_t vocabulary() const;  // tokens

 private:
  explicit Model(std::unique_ptr<Engine> engine);
  std::unique_ptr<Engine> engine_;
};

}  // namespace ms
#pragma GCC visibility pop
