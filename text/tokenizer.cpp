// tokenizer.cpp: what a GGUF file says about its tokenizer; the Rust crate does the rest.
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

Tokenizer Tokenizer::from_file(const ModelFile& file) {
  const Strings* tokens = file.find_strings("tokenizer.ggml.tokens");
  if (!tokens)
    fail("{}: tokenizer.ggml.tokens is missing: the file has no vocabulary", file.path().string());
  if (tokens->empty() || tokens->size() > INT32_MAX) {
    fail("{}: tokenizer.ggml.tokens has {} entries", file.path().string(), tokens->size());
  }
  Tokenizer out;
  out.kinds_ = token_kinds(file, tokens->size());
  out.find_special_tokens(file, *tokens);
  out.make_model(file, *tokens);
  out.add_eos_ = file.find_bool("tokenizer.ggml.add_eos_token").value_or(false);
  out.add_bos_ = file.find_bool("tokenizer.ggml.add_bos_token")
                     .value_or(out.bos_ && ms_text_tokenizer_usually_bos(out.rust_.get()));
  if ((out.add_bos_ && !out.bos_) || (out.add_eos_ && !out.eos_)) {
    fail("{}: the tokenizer adds a {} token, but tokenizer.ggml does not name it",
         file.path().string(), out.bos_ ? "eos" : "bos");
  }
  return out;
}

// Sets the ids, and makes control tokens of them: a file may call them normal, but text must not
// form them.
void Tokenizer::find_special_tokens(const ModelFile& file, const Strings& tokens) {
  bos_ = find_id(file, "tokenizer.ggml.bos_token_id", tokens.size());
  eos_ = find_id(file, "tokenizer.ggml.eos_token_id", tokens.size());
  eot_ = find_id(file, "tokenizer.ggml.eot_token_id", tokens.size());
  const auto eom = find_id(file, "tokenizer.ggml.eom_token_id", tokens.size());
  stop_tokens_ = ends(tokens);
  if (!eot_ && !stop_tokens_.empty()) eot_ = stop_tokens_.front();
  for (const std::optional<uint32_t> id : {eos_, eot_, eom}) {
    if (id) stop_tokens_.push_back(*id);
  }
  std::ranges::sort(stop_tokens_);
  stop_tokens_.erase(std::ranges::unique(stop_tokens_).begin(), stop_tokens_.end());
  for (const uint32_t id : stop_tokens_) kinds_[id] = kControl;
  if (bos_) kinds_[*bos_] = kControl;
}

// Sets rust_, pieces_ and space_prefix_; kinds_ are final by then.
void Tokenizer::make_model(const ModelFile& file, const Strings& tokens) {
  const std::string_view model = file.get_string("tokenizer.ggml.model");
  const Strings* merges = file.find_strings("tokenizer.ggml.merges");
  const std::vector<float>* scores = file.find_floats("tokenizer.ggml.scores");
  if (model == "gpt2" && !merges)
    fail("{}: tokenizer.ggml.merges is missing", file.path().string());
  if (model == "llama") {
    if (!scores) fail("{}: tokenizer.ggml.scores is missing", file.path().string());
    require_entries(file, "tokenizer.ggml.scores", scores->size(), tokens.size());
    space_prefix_ = file.find_bool("tokenizer.ggml.add_space_prefix").value_or(true);
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
      .space_prefix = space_prefix_,
  };
  rust::Buffer error;
  rust_.reset(ms_text_tokenizer_new(&vocabulary, &error));
  if (!rust_) fail("{}: the tokenizer cannot be made: {}", file.path().string(), error.view());
  const MsTextBytes* pieces = ms_text_tokenizer_pieces(rust_.get());
  pieces_.resize(tokens.size());
  std::transform(pieces, pieces + tokens.size(), pieces_.begin(), rust::view);
}

std::vector<uint32_t> Tokenizer::encode(std::string_view text, EncodeOptions options) const {
  rust::Buffer ids;
  if (!ms_text_tokenizer_encode(rust_.get(), rust::bytes(text), options.parse_special, &ids)) {
    fail("a text of {} bytes cannot be tokenized: {}", text.size(), ids.view());
  }
  const bool bos = options.add_special && add_bos_;
  std::vector<uint32_t> out(bos + ids.size / sizeof(uint32_t));
  if (bos) out[0] = *bos_;
  if (ids.size > 0) std::memcpy(out.data() + bos, ids.data, ids.size);
  if (options.add_special && add_eos_) out.push_back(*eos_);
  return out;
}

std::string Tokenizer::decode(std::span<const uint32_t> tokens, bool skip_special) const {
  std::string bytes;
  bool after_special = true;
  for (const uint32_t token : tokens) {
    const bool control = is_control(token);
    std::string_view text = control && skip_special ? std::string_view() : piece(token);
    if (!control && space_prefix_ && after_special && text.starts_with(' ')) text.remove_prefix(1);
    bytes += text;
    after_special = control || kinds_[token] == kUserDefined;
  }
  Utf8Stream utf8;
  const std::string out = utf8.push(bytes);
  return out + utf8.finish();
}

std::string_view Tokenizer::piece(uint32_t token) const {
  require(token < vocab_size(), "tokenizer: token {} of a vocabulary of {}", token, vocab_size());
  return pieces_[token];
}

bool Tokenizer::is_control(uint32_t token) const {
  require(token < vocab_size(), "tokenizer: token {} of a vocabulary of {}", token, vocab_size());
  return kinds_[token] == kControl || kinds_[token] == kUnknown;
}

}  // namespace ms
