// grammar.cpp: grammars, by the Rust crate.
#include "text/grammar.hpp"

#include "text/rust.hpp"

namespace ms {

namespace {

std::string_view name(Grammar::Kind kind) {
  switch (kind) {
    case Grammar::Kind::json_object:
      return "grammar of JSON objects";
    case Grammar::Kind::json_schema:
      return "JSON schema";
    case Grammar::Kind::regex:
      return "regular expression";
    case Grammar::Kind::lark:
      return "Lark grammar";
  }
  return "";
}

template <class... Args>
[[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) {
  throw GrammarError(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace

void Grammar::Free::operator()(MsTextGrammar* grammar) const { ms_text_grammar_free(grammar); }

Grammar::Grammar(const Tokenizer& tokenizer, Kind kind, std::string_view text,
                 std::span<const std::string> schemas) {
  rust::Buffer error;
  std::vector<MsTextBytes> bytes;
  for (const std::string& schema : schemas) bytes.push_back(rust::bytes(schema));
  rust_.reset(ms_text_grammar_new(&tokenizer.grammar_vocabulary(), uint32_t(kind),
                                  rust::bytes(text), bytes.data(), bytes.size(), &error));
  if (!rust_) refuse("the {} cannot be used: {}", name(kind), error.view());
}

GrammarState::GrammarState(const Grammar& grammar) {
  rust::Buffer error;
  rust_.reset(ms_text_grammar_copy(grammar.rust_.get(), &error));
  if (!rust_) refuse("the grammar cannot be used: {}", error.view());
}

GrammarState::Ends GrammarState::mask(std::span<uint32_t> words) {
  Ends ends = {};
  rust::Buffer error;
  if (!ms_text_grammar_mask(rust_.get(), words.data(), words.size(), &ends.may, &ends.must, &error))
    refuse("the grammar cannot be followed any further: {}", error.view());
  return ends;
}

bool GrammarState::commit(uint32_t token) {
  bool must_end = false;
  rust::Buffer error;
  if (!ms_text_grammar_commit(rust_.get(), token, &must_end, &error))
    refuse("the grammar does not go on by token {}: {}", token, error.view());
  return must_end;
}

bool GrammarState::commit_text(std::string_view text) {
  bool fits = false;
  rust::Buffer error;
  if (!ms_text_grammar_commit_text(rust_.get(), rust::bytes(text), &fits, &error))
    refuse("the grammar cannot be followed any further: {}", error.view());
  return fits;
}

}  // namespace ms
