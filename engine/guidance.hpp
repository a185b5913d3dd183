// guidance.hpp: what a request asks of each step beyond drawing a token: a bias, a grammar that
// allows some tokens alone, a report of probabilities.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "mainspring.hpp"
#include "text/grammar.hpp"

namespace ms {

// Throws GrammarError for a constraint that cannot be used.
Grammar grammar_of(const Tokenizer& tokenizer, const Constraint& constraint);
// The same, and tries the first step: throws for one that cannot be followed, too.
void check_constraint(const Tokenizer& tokenizer, const Constraint& constraint);

class Guidance {
 public:
  // Throws std::invalid_argument for a bias or a number of logprobs that makes no sense, Error for
  // a constraint that cannot be used. No tokenizer: no constraint.
  Guidance(const Request& request, const Tokenizer* tokenizer, uint32_t vocab);

  // Whether steps must be taken one by one.
  bool any() const { return has_grammar() || !bias_.empty() || logprobs_ >= 0; }
  bool has_grammar() const { return state_ == State::held; }
  bool wants_logits() const { return logprobs_ >= 0; }

  std::span<const uint32_t> bias() const { return bias_; }  // [n, 2] u32: token, bits of its f32

  // Of the grammar, for the next token: the bits of [vocab] tokens; empty where the text must end.
  std::span<const uint32_t> mask();
  // Goes on by a token. True if the grammar ends there.
  bool commit(uint32_t token) { return has_grammar() && grammar_->commit(token); }

  // Where a constraint holds from some text on: the next bytes of the text; true if with them it
  // has begun to hold. A special token whose name is waited for shows it.
  bool begins(std::string_view piece);
  bool waits_for(std::string_view name) const { return !from_.empty() && name == from_; }

  // Of a token, by the logits [vocab] that it was drawn by.
  TokenReport report(uint32_t token, std::span<const float> logits) const;

 private:
  enum class State { free, waiting, held };

  const Tokenizer* tokenizer_;
  std::vector<uint32_t> bias_, mask_, stop_tokens_;
  std::optional<GrammarState> grammar_;
  State state_ = State::free;  // of the text, by the grammar
  std::string from_, seen_;    // what is waited for; the end of the text that may begin it
  bool from_first_ = false;
  int32_t logprobs_;
};

}  // namespace ms
