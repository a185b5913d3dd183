// guidance.cpp: bias, grammar and probabilities, on the host's side.
#include "engine/guidance.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "base/error.hpp"

namespace ms {

namespace {

constexpr size_t most_biases = 1024;
constexpr int32_t most_logprobs = 20;

Grammar::Kind kind_of(const Constraint& constraint) {
  switch (constraint.kind) {
    case Constraint::Kind::json_object:
      return Grammar::Kind::json_object;
    case Constraint::Kind::json_schema:
      return Grammar::Kind::json_schema;
    case Constraint::Kind::regex:
      return Grammar::Kind::regex;
    case Constraint::Kind::lark:
      return Grammar::Kind::lark;
  }
  require(false, "a constraint is of kind {}, which there is none of", int(constraint.kind));
  return {};
}

}  // namespace

Grammar grammar_of(const Tokenizer& tokenizer, const Constraint& constraint) {
  return Grammar(tokenizer, kind_of(constraint), constraint.text, constraint.schemas);
}

void check_constraint(const Tokenizer& tokenizer, const Constraint& constraint) {
  const Grammar grammar = grammar_of(tokenizer, constraint);
  std::vector<uint32_t> mask((tokenizer.vocab_size() + 31) / 32);
  GrammarState(grammar).mask(mask);
  constexpr uint32_t most_tries = 4;  // of the tokens that may come first: one is enough
  std::optional<GrammarError> error;
  for (uint32_t token = 0, tries = 0; token < tokenizer.vocab_size() && tries < most_tries;
       ++token) {
    if ((mask[token / 32] >> token % 32 & 1) == 0) continue;
    try {
      GrammarState(grammar).commit(token);
      return;
    } catch (const GrammarError& of_this) {
      if (tries++ == 0) error = of_this;
    }
  }
  if (error) throw *error;
}

Guidance::Guidance(const Request& request, const Tokenizer* tokenizer, uint32_t vocab)
    : tokenizer_(tokenizer), logprobs_(request.logprobs) {
  require(logprobs_ >= -1 && logprobs_ <= most_logprobs, "logprobs is {}, want -1 (none) to {}",
          logprobs_, most_logprobs);
  require(request.logit_bias.size() <= most_biases, "logit bias: {} tokens, at most {}",
          request.logit_bias.size(), most_biases);
  for (const auto& [token, bias] : request.logit_bias) {
    require(token < vocab, "logit bias of token {}; the vocabulary has {}", token, vocab);
    require(std::isfinite(bias), "logit bias of token {} is {}, want a number", token, bias);
    bias_.insert(bias_.end(), {token, std::bit_cast<uint32_t>(bias)});
  }
  if (!request.constraint) return;
  if (!tokenizer) fail("the model file has no tokenizer: its output cannot be held to a grammar");
  grammar_.emplace(grammar_of(*tokenizer, *request.constraint));
  from_ = request.constraint->from;
  from_first_ = request.constraint->from_first;
  state_ = from_.empty() ? State::held : State::waiting;
  mask_.resize((vocab + 31) / 32);
  if (!request.ignore_eos)
    stop_tokens_.assign(tokenizer->stop_tokens().begin(), tokenizer->stop_tokens().end());
}

std::span<const uint32_t> Guidance::mask() {
  const GrammarState::Ends ends = grammar_->mask(mask_);
  if (ends.must) return {};
  if (ends.may)
    for (const uint32_t token : stop_tokens_) mask_[token / 32] |= 1u << token % 32;
  return mask_;
}

bool Guidance::begins(std::string_view piece) {
  if (state_ != State::waiting) return false;
  seen_ += piece;
  if (from_first_) seen_.erase(0, std::min(seen_.find_first_not_of(" \n\r\t"), seen_.size()));
  const size_t at =
      from_first_ ? (seen_.starts_with(from_) ? 0 : std::string::npos) : seen_.find(from_);
  if (at == std::string::npos) {
    if (from_first_ && !from_.starts_with(seen_)) state_ = State::free;
    // No more of it can be the beginning of what is waited for.
    if (!from_first_ && seen_.size() >= from_.size())
      seen_.erase(0, seen_.size() - from_.size() + 1);
    return false;
  }
  const bool fits = grammar_->commit_text(std::string_view(seen_).substr(at));
  // At another place it may fit.
  if (!fits) seen_.clear();
  state_ = fits ? State::held : from_first_ ? State::free : State::waiting;
  return fits;
}

TokenReport Guidance::report(uint32_t token, std::span<const float> logits) const {
  const auto is_nan = [](float logit) { return std::isnan(logit); };
  float top = -std::numeric_limits<float>::infinity();
  for (const float logit : logits) top = std::max(top, is_nan(logit) ? top : logit);
  double sum = 0;
  for (const float logit : logits) sum += is_nan(logit) ? 0 : std::exp(double(logit) - top);
  const double norm = top + std::log(sum);
  const auto of = [&](uint32_t id) {
    const bool has_text = tokenizer_ && id < tokenizer_->vocab_size();
    return TokenLogprob{id, has_text ? std::string(tokenizer_->piece(id)) : "",
                        float(logits[id] - norm)};
  };
  std::vector<uint32_t> ids(logits.size());
  std::iota(ids.begin(), ids.end(), 0u);
  const auto count = std::min<std::ptrdiff_t>(logprobs_, std::ssize(ids));
  const auto level = [&](uint32_t id) {
    return is_nan(logits[id]) ? -std::numeric_limits<float>::infinity() : logits[id];
  };
  std::partial_sort(ids.begin(), ids.begin() + count, ids.end(), [&](uint32_t a, uint32_t b) {
    return level(a) != level(b) ? level(a) > level(b) : a < b;
  });
  TokenReport report{of(token), {}};
  for (std::ptrdiff_t i = 0; i < count; ++i) report.likeliest.push_back(of(ids[size_t(i)]));
  return report;
}

}  // namespace ms
