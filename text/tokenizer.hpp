// tokenizer.hpp: text to tokens and back, with the vocabulary of a model file.
//
// Byte-level BPE (tokenizer.ggml.model "gpt2"), SentencePiece ("llama"), WordPiece ("bert"), and
// what a tokenizer.json describes, exactly as the model's own tokenizer. A Tokenizer does not
// change once made: threads may share it.
#pragma once
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/model_file.hpp"

struct MsTextTokenizer;
struct MsTextGrammarVocabulary;

namespace ms {

class Tokenizer {
 public:
  struct EncodeOptions {
    // bos and eos, or what else the model wants around a text.
    bool add_special = true;
    // "<|im_end|>" in the text is that token. Never for text from a user.
    bool parse_special = false;
    // The text's last tokens are left out where, with what is around it, there were more.
    size_t most = SIZE_MAX;
  };

  // The vocabulary in the metadata (tokenizer.ggml.*, or else tokenizer.huggingface.json); an Error
  // says what is missing or contradicts itself.
  static Tokenizer from_file(const ModelFile& file);
  // Whether there is any: some models take token ids only.
  static bool is_in(const ModelFile& file);

  // Bytes that are not UTF-8 count as U+FFFD. What the vocabulary can't spell is left out, as by
  // the model's own tokenizer: a few control characters in some byte-level vocabularies.
  std::vector<uint32_t> encode(std::string_view text, EncodeOptions options) const;

  // The text of whole tokens, always UTF-8: the inverse of encode without add_special.
  // `skip_special` leaves out control tokens. For a stream of tokens use piece() and Utf8Stream.
  std::string decode(std::span<const uint32_t> tokens, bool skip_special) const;

  // The bytes of one token: perhaps a part of a character; of a control token, its name. They live
  // as long as this. Where space_prefix(), a stretch of text that follows a special token begins
  // with a space that is not its own.
  std::string_view piece(uint32_t token) const;

  uint32_t vocab_size() const { return static_cast<uint32_t>(kinds_.size()); }
  bool is_control(uint32_t token) const;
  bool space_prefix() const { return space_prefix_; }
  // The beginning and the end of a text, and the end of a turn, which often is the same as eos.
  std::optional<uint32_t> bos() const { return bos_; }
  // Whether add_special begins with it.
  bool adds_bos() const { return bos_ && !start_.empty() && start_.front() == *bos_; }
  std::optional<uint32_t> eos() const { return eos_; }
  std::optional<uint32_t> eot() const { return eot_; }
  // All tokens that end a reply, ascending: eos, eot, eom and those whose name says so, like
  // <|im_end|>.
  std::span<const uint32_t> stop_tokens() const { return stop_tokens_; }

  // What grammars are compiled for (grammar.hpp): made by the first call, and kept.
  const MsTextGrammarVocabulary& grammar_vocabulary() const;

 private:
  struct ForGrammars {
    std::once_flag once;
    std::shared_ptr<MsTextGrammarVocabulary> vocabulary;
  };
  struct Free {
    void operator()(MsTextTokenizer* tokenizer) const;
  };
  Tokenizer() = default;
  void find_special_tokens(const ModelFile& file, const std::vector<std::string_view>& tokens);
  void make_model(const ModelFile& file, const std::vector<std::string_view>& tokens);
  void parse_model(const ModelFile& file, std::string_view json);
  void frame(const ModelFile& file);

  std::unique_ptr<MsTextTokenizer, Free> rust_;
  std::vector<int32_t> kinds_;            // tokenizer.ggml.token_type
  std::vector<std::string_view> pieces_;  // in rust_
  std::vector<uint32_t> stop_tokens_;
  std::optional<uint32_t> bos_, eos_, eot_;
  std::vector<uint32_t> start_, end_;  // of a text with add_special
  bool space_prefix_ = false;          // after each special token
  bool first_space_ = false;           // at the beginning of a text
  std::unique_ptr<ForGrammars> for_grammars_ = std::make_unique<ForGrammars>();
};

}  // namespace ms
