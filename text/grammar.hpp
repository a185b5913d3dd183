// grammar.hpp: forms that a text is held to, token by token: JSON schemas, regular expressions,
// Lark grammars. Over the Rust crate llguidance, which matches regular expressions without
// backtracking.
//
// A grammar may come from anyone: what is too large, or takes too much time or memory to compile or
// to follow, is a GrammarError that names the limit.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "base/error.hpp"
#include "text/tokenizer.hpp"

struct MsTextGrammar;

namespace ms {

// The grammar's own fault: nothing else is the worse for it.
struct GrammarError : Error {
  using Error::Error;
};

// A form, compiled for a vocabulary. Does not change once made: threads may share it.
class Grammar {
 public:
  enum class Kind : uint32_t {
    json_object,  // any object; of no text
    // Properties in the schema's order. White space: a blank, or a line feed and its indentation,
    // or none; what a schema's "x-guidance" has instead of that is up to llguidance.
    // Of oneOf more than one may hold; a format that is not known says nothing. An object with
    // "properties" has no others unless "additionalProperties" says so, but in a schema that puts
    // objects together of parts (allOf, $ref beside properties).
    json_schema,
    regex,  // the whole text matches, in the syntax of Rust's regex
    lark,   // in llguidance's dialect, from the rule `start`
  };
  // `schemas`: JSON schemas that a Lark grammar names schema_0, schema_1, … Throws GrammarError:
  // what is wrong with the text, keywords that are not supported among that, unless a schema's
  // "x-guidance" is {"lenient": true}: then they count as absent.
  Grammar(const Tokenizer& tokenizer, Kind kind, std::string_view text,
          std::span<const std::string> schemas = {});

 private:
  friend class GrammarState;
  struct Free {
    void operator()(MsTextGrammar* grammar) const;
  };
  std::unique_ptr<MsTextGrammar, Free> rust_;
};

// Where one text stands in a grammar. Throws GrammarError where no token can follow, and at limits.
class GrammarState {
 public:
  explicit GrammarState(const Grammar& grammar);  // at the beginning

  struct Ends {
    bool may, must;  // the text end here
  };
  // A bit for each token of the vocabulary: whether it may follow. Control tokens may not, those
  // that end a text neither: `may` stands for them. Bits beyond the vocabulary are cleared.
  Ends mask(std::span<uint32_t> words);
  // Goes on by a token that a mask allows; whether the text must end behind it.
  bool commit(uint32_t token);
  // Goes on by a text, whatever tokens spell it. False where the grammar does not go so: it stands
  // where it did.
  bool commit_text(std::string_view text);

 private:
  std::unique_ptr<MsTextGrammar, Grammar::Free> rust_;
};

}  // namespace ms
