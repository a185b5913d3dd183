// tokenizer.cpp: what a model file says about its tokenizer; the Rust crate does the rest.
#include "text/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.hpp"
#include "text/rust.hpp"
#include "text/utf8.hpp"

namespace ms {
namespace {

// The values of tokenizer.ggml.token_type; 5 is unused, 6 a byte.
constexpr int32_t kNormal = 1;
constexpr int32_t kUnknown = 2;
constexpr int32_t kControl = 3;
constexpr int32_t kUserDefined = 4;
constexpr int32_t kLastKind = 6;

// Names of tokens that end a turn or a text. A file may call them normal tokens, or name only one
// of them as eos.
constexpr auto kEnds = std::to_array<std::string_view>(
    {"<|eot_id|>", "<|im_end|>", "<end_of_turn>", "<|end|>", "<turn|>", "<end_of_utterance>",
     "<EOT>", "_<EOT>", "[EOT]", "<|return|>", "<|call|>", "<|eom_id|>", "<|endoftext|>",
     "<|end_of_text|>", "<｜end▁of▁sentence｜>"});
constexpr std::string_view kJson = "tokenizer.huggingface.json";
constexpr std::string_view kEndIds = "tokenizer.huggingface.eos_token_ids";
constexpr std::string_view kHarmonyReturn = "<|return|>", kHarmonyEnd = "<|end|>";

using Strings = std::vector<std::string_view>;

std::vector<MsTextBytes> as_bytes(const Strings& strings) {
  std::vector<MsTextBytes> out(strings.size());
  std::ranges::transform(strings, out.begin(), rust::bytes);
  return out;
}

std::optional<uint32_t> find_id(const ModelFile& file, std::string_view key, size_t n_tokens) {
  const std::optional<uint64_t> id = file.find_uint(key);
  if (!id) return std::nullopt;
  if (*id >= n_tokens) {
    fail("{}: {} is {}, but there are {} tokens", file.path().string(), key, *id, n_tokens);
  }
  return static_cast<uint32_t>(*id);
}

void require_entries(const ModelFile& file, std::string_view key, size_t entries, size_t n_tokens) {
  if (entries == n_tokens) return;
  fail("{}: {} has {} entries, but there are {} tokens", file.path().string(), key, entries,
       n_tokens);
}

// [tokens]: normal, where the file does not say.
std::vector<int32_t> token_kinds(const ModelFile& file, size_t n_tokens) {
  constexpr std::string_view kKey = "tokenizer.ggml.token_type";
  const std::optional<std::vector<int64_t>> kinds = file.find_ints(kKey);
  if (!kinds) return std::vector<int32_t>(n_tokens, kNormal);
  require_entries(file, kKey, kinds->size(), n_tokens);
  for (size_t id = 0; id < n_tokens; ++id) {
    if ((*kinds)[id] < 0 || (*kinds)[id] > kLastKind) {
      fail("{}: {} of token {} is {}, not 0 to {}", file.path().string(), kKey, id, (*kinds)[id],
           kLastKind);
    }
  }
  return {kinds->begin(), kinds->end()};
}

// Ids of the tokens of kEnds that the vocabulary has, in that order. In the Harmony format <|end|>
// ends a message, after which the same reply goes on.
std::vector<uint32_t> ends(const Strings& tokens) {
  std::array<std::optional<uint32_t>, kEnds.size()> found;
  bool harmony = false;
  for (uint32_t id = 0; id < tokens.size(); ++id) {
    const auto name = std::ranges::find(kEnds, tokens[id]);
    if (name != kEnds.end()) found[name - kEnds.begin()] = id;
    harmony = harmony || tokens[id] == kHarmonyReturn;
  }
  std::vector<uint32_t> out;
  for (size_t i = 0; i < kEnds.size(); ++i) {
    if (found[i] && !(harmony && kEnds[i] == kHarmonyEnd)) out.push_back(*found[i]);
  }
  return out;
}

// [tokens]: which of them swallow the white space after them. A GGUF file does not say; of the
// models here only the SentencePiece ones of Phi-3 have such tokens (their tokenizer.json:
// "rstrip").
std::vector<uint8_t> strip_flags(const ModelFile& file, const Strings& tokens, bool sentencepiece) {
  std::vector<uint8_t> out(tokens.size(), 0);
  if (!sentencepiece || file.find_string("general.architecture") != "phi3") return out;
  constexpr auto kExceptions = std::to_array<std::string_view>({"<unk>", "<s>", "<|endoftext|>"});
  for (size_t id = 0; id < tokens.size(); ++id) {
    out[id] = std::ranges::find(kExceptions, tokens[id]) == kExceptions.end();
  }
  return out;
}

}  // namespace

void Tokenizer::Free::operator()(MsTextTokenizer* tokenizer) const {
  ms_text_tokenizer_free(tokenizer);
}

bool Tokenizer::is_in(const ModelFile& file) {
  // "none" and "no_vocab" are GGUF's words.
  const auto model = file.find_string("tokenizer.ggml.model").value_or("none");
  return (model != "none" && model != "no_vocab") || file.find(kJson) != nullptr;
}

Tokenizer Tokenizer::from_file(const ModelFile& file) {
  Tokenizer out;
  const Strings* tokens = file.find_strings("tokenizer.ggml.tokens");
  if (tokens == nullptr) {
    const auto json = file.find_string(kJson);
    if (!json) {
      fail("{}: tokenizer.ggml.tokens is missing: the file has no vocabulary",
           file.path().string());
    }
    out.parse_model(file, *json);
  } else {
    if (tokens->empty() || tokens->size() > INT32_MAX) {
      fail("{}: tokenizer.ggml.tokens has {} entries", file.path().string(), tokens->size());
    }
    out.kinds_ = token_kinds(file, tokens->size());
    out.find_special_tokens(file, *tokens);
    out.make_model(file, *tokens);
  }
  const MsTextProperties& properties = *ms_text_tokenizer_properties(out.rust_.get());
  out.pieces_.resize(properties.n_tokens);
  std::transform(properties.pieces, properties.pieces + properties.n_tokens, out.pieces_.begin(),
                 rust::view);
  out.first_space_ = properties.strips_first;
  out.space_prefix_ = properties.strips_each;
  out.frame(file);
  return out;
}

// Sets start_ and end_, as the file says or else as is usual.
void Tokenizer::frame(const ModelFile& file) {
  const MsTextProperties& usual = *ms_text_tokenizer_properties(rust_.get());
  start_.assign(usual.start, usual.start + usual.n_start);
  end_.assign(usual.end, usual.end + usual.n_end);
  if (usual.usually_bos && bos_) start_ = {*bos_};
  const bool bert = file.find_string("tokenizer.ggml.model") == "bert";
  const auto add_bos = file.find_bool("tokenizer.ggml.add_bos_token");
  const auto add_eos = file.find_bool("tokenizer.ggml.add_eos_token");
  const auto set = [&](std::optional<bool> add, std::optional<uint32_t> token,
                       std::vector<uint32_t>& side, std::string_view name) {
    if (!add) return;
    if (*add && !token) {
      fail("{}: the tokenizer adds a {} token, but the file does not name it", file.path().string(),
           name);
    }
    side = *add ? std::vector{*token} : std::vector<uint32_t>();
  };
  set(add_bos ? add_bos : bert ? std::optional(true) : std::nullopt, bos_, start_, "bos");
  set(add_eos ? add_eos : bert ? std::optional(true) : std::nullopt, eos_, end_, "eos");
}

// Sets the ids, and makes control tokens of them: a file may call them normal, but text must not
// form them.
void Tokenizer::find_special_tokens(const ModelFile& file, const Strings& tokens) {
  bos_ = find_id(file, "tokenizer.ggml.bos_token_id", tokens.size());
  eos_ = find_id(file, "tokenizer.ggml.eos_token_id", tokens.size());
  // BERT's names for them; GGUF spells the second one so.
  if (!bos_) bos_ = find_id(file, "tokenizer.ggml.cls_token_id", tokens.size());
  if (!eos_) eos_ = find_id(file, "tokenizer.ggml.seperator_token_id", tokens.size());
  eot_ = find_id(file, "tokenizer.ggml.eot_token_id", tokens.size());
  const auto eom = find_id(file, "tokenizer.ggml.eom_token_id", tokens.size());
  stop_tokens_ = ends(tokens);
  if (!eot_ && !stop_tokens_.empty()) eot_ = stop_tokens_.front();
  for (const std::optional<uint32_t> id : {eos_, eot_, eom}) {
    if (id) stop_tokens_.push_back(*id);
  }
  if (const auto ids = file.find_ints(kEndIds)) {
    for (const int64_t id : *ids) {
      if (id < 0 || uint64_t(id) >= tokens.size())
        fail("{}: {} holds {}, but there are {} tokens", file.path().string(), kEndIds, id,
             tokens.size());
      stop_tokens_.push_back(uint32_t(id));
    }
  }
  std::ranges::sort(stop_tokens_);
  stop_tokens_.erase(std::ranges::unique(stop_tokens_).begin(), stop_tokens_.end());
  for (const uint32_t id : stop_tokens_) kinds_[id] = kControl;
  if (bos_) kinds_[*bos_] = kControl;
}

// Sets rust_ and kinds_, as tokenizer.json has them.
void Tokenizer::parse_model(const ModelFile& file, std::string_view json) {
  rust::Buffer error;
  rust_.reset(ms_text_tokenizer_parse(rust::bytes(json), &error));
  if (!rust_) fail("{}: tokenizer.json cannot be used: {}", file.path().string(), error.view());
  const MsTextProperties& properties = *ms_text_tokenizer_properties(rust_.get());
  Strings tokens(properties.n_tokens);
  std::transform(properties.tokens, properties.tokens + properties.n_tokens, tokens.begin(),
                 rust::view);
  kinds_.assign(properties.kinds, properties.kinds + properties.n_tokens);
  find_special_tokens(file, tokens);
  std::vector<uint32_t> control;
  for (uint32_t id = 0; id < kinds_.size(); ++id) {
    if (kinds_[id] == kControl) control.push_back(id);
  }
  if (!ms_text_tokenizer_set_control(rust_.get(), control.data(), control.size(), &error)) {
    fail("{}: tokenizer.json cannot be used: {}", file.path().string(), error.view());
  }
}

// Sets rust_; kinds_ are final by then.
void Tokenizer::make_model(const ModelFile& file, const Strings& tokens) {
  const std::string_view model = file.get_string("tokenizer.ggml.model");
  const Strings* merges = file.find_strings("tokenizer.ggml.merges");
  const std::vector<float>* scores = file.find_floats("tokenizer.ggml.scores");
  if (model == "gpt2" && !merges)
    fail("{}: tokenizer.ggml.merges is missing", file.path().string());
  if (model == "llama") {
    if (!scores) fail("{}: tokenizer.ggml.scores is missing", file.path().string());
    require_entries(file, "tokenizer.ggml.scores", scores->size(), tokens.size());
  }
  const std::vector<MsTextBytes> token_bytes = as_bytes(tokens);
  const std::vector<MsTextBytes> merge_bytes = as_bytes(merges ? *merges : Strings());
  const std::vector<uint8_t> strips = strip_flags(file, tokens, model == "llama");
  const auto unknown = find_id(file, "tokenizer.ggml.unknown_token_id", tokens.size());
  const MsTextVocabulary vocabulary = {
      .model = rust::bytes(model),
      .pre = rust::bytes(file.find_string("tokenizer.ggml.pre").value_or("")),
      .tokens = token_bytes.data(),
      .kinds = kinds_.data(),
      .strips = strips.data(),
      .n_tokens = tokens.size(),
      .scores = scores ? scores->data() : nullptr,
      .n_scores = scores ? scores->size() : 0,
      .merges = merge_bytes.data(),
      .n_merges = merge_bytes.size(),
      .unknown = unknown ? static_cast<int64_t>(*unknown) : -1,
      .space_prefix = file.find_bool("tokenizer.ggml.add_space_prefix").value_or(true),
  };
  rust::Buffer error;
  rust_.reset(ms_text_tokenizer_new(&vocabulary, &error));
  if (!rust_) fail("{}: the tokenizer cannot be made: {}", file.path().string(), error.view());
}

std::vector<uint32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  rust::Buffer ids;
  if (!ms_text_tokenizer_encode(rust_.get(), rust::bytes(text), options.parse_special, &ids)) {
    fail("a text of {} bytes cannot be tokenized: {}", text.size(), ids.view());
  }
  std::vector<uint32_t> out;
  if (options.add_special) out = start_;
  const size_t text_at = out.size();
  const size_t around = options.add_special ? start_.size() + end_.size() : 0;
  const size_t room = options.most - std::min(options.most, around);
  const size_t count = std::min(ids.size / sizeof(uint32_t), room);
  out.resize(text_at + count);
  if (count > 0) std::memcpy(out.data() + text_at, ids.data, count * sizeof(uint32_t));
  if (options.add_special) out.insert(out.end(), end_.begin(), end_.end());
  return out;
}

std::string Tokenizer::decode(std::span<const uint32_t> tokens, bool skip_special) const {
  std::string bytes;
  bool strips = first_space_;
  for (const uint32_t token : tokens) {
    const bool control = is_control(token);
    std::string_view text = control && skip_special ? std::string_view() : piece(token);
    if (!control && strips && text.starts_with(' ')) text.remove_prefix(1);
    bytes += text;
    const bool special = control || kinds_[token] == kUserDefined;
    strips = special && (space_prefix_ || (strips && control));
  }
  Utf8Stream utf8;
  const std::string out = utf8.push(bytes);
  return out + utf8.finish();
}

std::string_view Tokenizer::piece(uint32_t token) const {
  require(token < vocab_size(), "tokenizer: token {} of a vocabulary of {}", token, vocab_size());
  return pieces_[token];
}

const MsTextGrammarVocabulary& Tokenizer::grammar_vocabulary() const {
  std::call_once(for_grammars_->once, [&] {
    std::vector<MsTextBytes> texts;
    for (uint32_t token = 0; token < vocab_size(); ++token)
      texts.push_back(rust::bytes(is_control(token) ? std::string_view() : piece(token)));
    rust::Buffer error;
    for_grammars_->vocabulary.reset(
        ms_text_grammar_vocabulary_new(texts.data(), texts.size(), &error),
        ms_text_grammar_vocabulary_free);
    if (!for_grammars_->vocabulary)
      fail("no grammar can hold for this vocabulary: {}", error.view());
  });
  return *for_grammars_->vocabulary;
}

bool Tokenizer::is_control(uint32_t token) const {
  require(token < vocab_size(), "tokenizer: token {} of a vocabulary of {}", token, vocab_size());
  return kinds_[token] == kControl || kinds_[token] == kUnknown;
}

}  // namespace ms
