// grammar_test.cpp: masks of small vocabularies, what grammars accept, and grammars that are wrong
// or hostile.
#include "text/grammar.hpp"

#include <gtest/gtest.h>

#include <ctime>
#include <set>
#include <thread>

#include "formats/gguf_builder.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

using Kind = Grammar::Kind;
using Texts = std::set<std::string>;

Tokenizer load(const GgufBuilder& builder) {
  TemporaryFile file(builder.bytes());
  return Tokenizer::from_file(open_model(file.path()));
}

GgufBuilder vocabulary(std::string_view model, const std::vector<std::string>& tokens,
                       const std::vector<int32_t>& kinds) {
  GgufBuilder out;
  out.set("general.architecture", "llama")
      .set("tokenizer.ggml.model", model)
      .set("tokenizer.ggml.tokens", std::vector<std::string_view>(tokens.begin(), tokens.end()))
      .set("tokenizer.ggml.token_type", kinds)
      .set("tokenizer.ggml.bos_token_id", 0u)
      .set("tokenizer.ggml.eos_token_id", 1u);
  return out;
}

// <s>, </s>, then these, as GPT-2 writes bytes: "Ġ" is a blank, "ðŁĺĢ" U+1F600.
Tokenizer byte_level(std::vector<std::string> tokens) {
  tokens.insert(tokens.begin(), {"<s>", "</s>"});
  std::vector<int32_t> kinds(tokens.size(), 1);
  kinds[0] = kinds[1] = 3;
  return load(vocabulary("gpt2", tokens, kinds)
                  .set("tokenizer.ggml.pre", "gpt-2")
                  .set("tokenizer.ggml.merges", std::vector<std::string_view>()));
}

// <s>, </s>, the 256 bytes, then these: "▁" is a blank.
Tokenizer sentencepiece(const std::vector<std::string>& pieces) {
  std::vector<std::string> tokens = {"<s>", "</s>"};
  std::vector<int32_t> kinds = {3, 3};
  for (int byte = 0; byte < 256; ++byte) {
    tokens.push_back(fmt::format("<0x{:02X}>", byte));
    kinds.push_back(6);
  }
  tokens.insert(tokens.end(), pieces.begin(), pieces.end());
  kinds.resize(tokens.size(), 1);
  return load(vocabulary("llama", tokens, kinds)
                  .set("tokenizer.ggml.scores", std::vector<float>(tokens.size())));
}

// Of bytes alone.
const Tokenizer& bytes() {
  static const Tokenizer tokenizer = sentencepiece({});
  return tokenizer;
}
uint32_t token_of(char byte) { return 2 + static_cast<uint8_t>(byte); }

// A text on its way through a grammar, by the tokens' bytes.
struct Walk {
  const Tokenizer& tokenizer;
  GrammarState state;
  std::vector<uint32_t> words;
  GrammarState::Ends ends = {};
  bool ended = false;  // by the last token

  Walk(const Tokenizer& tokenizer, const Grammar& grammar)
      : tokenizer(tokenizer), state(grammar), words((tokenizer.vocab_size() + 31) / 32) {}
  Walk(const Tokenizer& tokenizer, Kind kind, std::string_view text)
      : Walk(tokenizer, Grammar(tokenizer, kind, text)) {}

  bool allowed(uint32_t token) const { return words[token / 32] >> token % 32 & 1; }
  // The bytes of the tokens that may follow; "." where the text may end, "!" where it must.
  Texts mask() {
    ends = state.mask(words);
    Texts out;
    for (uint32_t token = 0; token < tokenizer.vocab_size(); ++token)
      if (allowed(token)) out.emplace(tokenizer.piece(token));
    if (ends.may) out.insert(ends.must ? "!" : ".");
    return out;
  }
  Walk& operator+=(std::string_view piece) {
    for (uint32_t token = 0; token < tokenizer.vocab_size(); ++token)
      if (tokenizer.piece(token) == piece) {
        ended = state.commit(token);
        return *this;
      }
    fail("there is no token {}", piece);
  }
};

// Whether a grammar takes a text, byte for byte, and may end behind it.
bool accepts(const Grammar& grammar, std::string_view text) {
  Walk walk(bytes(), grammar);
  for (const char byte : text) {
    walk.ends = walk.state.mask(walk.words);
    if (!walk.allowed(token_of(byte))) return false;
    walk.state.commit(token_of(byte));
  }
  return walk.state.mask(walk.words).may;
}
Grammar schema(std::string_view text) { return Grammar(bytes(), Kind::json_schema, text); }

std::string failure(Kind kind, std::string_view text) {
  try {
    Walk walk(bytes(), kind, text);
    // As far as the first token that may follow leads.
    for (int i = 0; i < 200; ++i) {
      if (walk.state.mask(walk.words).must) break;
      uint32_t token = 0;
      while (!walk.allowed(token)) ++token;
      walk.state.commit(token);
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

TEST(Grammar, masks_have_the_tokens_that_keep_a_text_within_a_regex) {
  const Tokenizer tokenizer = byte_level({"a", "b", "c", "ab", "bc", "abc", "abd", "Ġa", "d"});
  Walk walk(tokenizer, Kind::regex, "ab+c");
  EXPECT_EQ(walk.mask(), (Texts{"a", "ab", "abc"}));
  walk += "a";
  EXPECT_EQ(walk.mask(), (Texts{"b", "bc"}));
  walk += "b";
  EXPECT_EQ(walk.mask(), (Texts{"b", "bc", "c"}));
  EXPECT_FALSE(walk.ended);
  walk += "bc";
  EXPECT_TRUE(walk.ended);
  EXPECT_EQ(walk.mask(), (Texts{"!"}));
}

TEST(Grammar, a_text_may_end_exactly_where_its_grammar_does) {
  const Tokenizer tokenizer = byte_level({"a", "aa"});
  Walk walk(tokenizer, Kind::regex, "a{2,4}");
  EXPECT_EQ(walk.mask(), (Texts{"a", "aa"}));
  walk += "a";
  EXPECT_EQ(walk.mask(), (Texts{"a", "aa"}));
  walk += "a";
  EXPECT_EQ(walk.mask(), (Texts{".", "a", "aa"}));
  walk += "a";
  EXPECT_EQ(walk.mask(), (Texts{".", "a"}));
  walk += "a";
  EXPECT_TRUE(walk.ended);

  Walk empty(tokenizer, Kind::regex, "");
  EXPECT_EQ(empty.mask(), (Texts{"!"}));
  Walk endless(tokenizer, Kind::regex, "a*");
  EXPECT_EQ(endless.mask(), (Texts{".", "a", "aa"}));
}

TEST(Grammar, characters_may_be_split_over_tokens) {
  // U+1F600 and U+1F601 differ in the last of four bytes.
  const Tokenizer tokenizer = byte_level({"ð", "Ł", "ĺ", "Ģ", "ģ", "ðŁ", "ŁĺĢ", "Łĺģ", "ðŁĺģ"});
  Walk walk(tokenizer, Kind::regex, "\U0001F600");
  EXPECT_EQ(walk.mask(), (Texts{"\xF0", "\xF0\x9F"}));
  walk += "\xF0";
  EXPECT_EQ(walk.mask(), (Texts{"\x9F", "\x9F\x98\x80"}));
  EXPECT_FALSE(walk.ends.may);
  walk += "\x9F";
  walk += "\x98";
  EXPECT_EQ(walk.mask(), (Texts{"\x80"}));
  walk += "\x80";
  EXPECT_TRUE(walk.ended);

  Walk any(tokenizer, Kind::regex, ".");
  EXPECT_EQ(any.mask(), (Texts{"\xF0", "\xF0\x9F", "\U0001F601"}));  // the others begin nothing

  const Tokenizer pieces = sentencepiece({"▁é", "é"});
  Walk blank(pieces, Kind::regex, " é");
  EXPECT_EQ(blank.mask(), (Texts{" ", " é"}));
  blank += " ";
  EXPECT_EQ(blank.mask(), (Texts{"é", "\xC3"}));
  blank += "\xC3";
  EXPECT_EQ(blank.mask(), (Texts{"\xA9"}));
}

TEST(Grammar, tokens_of_the_same_bytes_are_allowed_alike) {
  const Tokenizer tokenizer = sentencepiece({"a", "b", "ab"});
  const uint32_t a = 258, b = 259;  // besides the bytes'
  Walk walk(tokenizer, Kind::regex, "[ab]{2}");
  EXPECT_EQ(walk.mask(), (Texts{"a", "b", "ab"}));
  for (const uint32_t token : {a, b, token_of('a'), token_of('b')})
    EXPECT_TRUE(walk.allowed(token)) << token;
  EXPECT_FALSE(walk.state.commit(a));
  walk.mask();
  EXPECT_TRUE(walk.allowed(token_of('a')));
  EXPECT_TRUE(walk.state.commit(token_of('a')));
}

TEST(Grammar, a_token_beyond_any_text_is_never_allowed) {
  const std::string deep(1 << 20, 'a');
  const Tokenizer tokenizer = sentencepiece({deep, deep.substr(0, 1000)});
  Walk walk(tokenizer, Kind::regex, "a*");
  EXPECT_EQ(walk.mask(), (Texts{".", "a", deep.substr(0, 1000)}));
  EXPECT_FALSE(walk.allowed(258));
  EXPECT_THROW(walk.state.commit(258), Error);
}

TEST(Grammar, masks_of_a_schema_are_as_by_hand) {
  const Tokenizer tokenizer = byte_level({"{", "}", "\"", ":", "1", "2", "12", "a", "b", "{\"",
                                          "\"a", "\":", "Ġ", "Ċ", "ĠĠ", "}}", "Ġ1", "<"});
  Walk walk(
      tokenizer, Kind::json_schema,
      R"({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1, "maximum": 1}},
                "required": ["a"], "additionalProperties": false})");
  EXPECT_EQ(walk.mask(), (Texts{"{", "{\""}));
  walk += "{";
  EXPECT_EQ(walk.mask(), (Texts{" ", "\n", "\"", "\"a"}));
  walk += " ";
  EXPECT_EQ(walk.mask(), (Texts{"\"", "\"a"}));  // one blank, no more
  walk += "\"a";
  EXPECT_EQ(walk.mask(), (Texts{"\"", "\":"}));
  walk += "\":";
  EXPECT_EQ(walk.mask(), (Texts{" ", " 1", "1", "\n"}));
  walk += " 1";
  EXPECT_EQ(walk.mask(), (Texts{" ", "\n", "}"}));
  walk += "}";
  EXPECT_TRUE(walk.ended);
}

TEST(Grammar, control_tokens_are_never_allowed_even_where_a_grammar_names_them) {
  const Tokenizer tokenizer = byte_level({"<", "s", ">", "/"});
  Walk walk(tokenizer, Kind::regex, "</?s>");
  EXPECT_EQ(walk.mask(), Texts{"<"});
  EXPECT_FALSE(walk.allowed(0));
  EXPECT_THROW(walk.state.commit(0), Error);
  Walk numbers(tokenizer, Kind::lark, "start: <[0-1]> | <[2]>");
  EXPECT_EQ(numbers.mask(), Texts{"<"});
  Walk none(tokenizer, Kind::lark, "start: <[1]>");
  try {
    none.mask();
    ADD_FAILURE() << "a mask of nothing";
  } catch (const Error& error) {
    EXPECT_SAYS(std::string(error.what()), "no token");
  }
}

TEST(Grammar, a_vocabulary_that_cannot_spell_it_is_an_error_and_not_an_empty_mask) {
  const Tokenizer tokenizer = byte_level({"a", "b"});
  Walk walk(tokenizer, Kind::regex, "axb");
  EXPECT_EQ(walk.mask(), Texts{"a"});
  walk += "a";
  try {
    walk.mask();
    ADD_FAILURE() << "a mask of nothing";
  } catch (const Error& error) {
    EXPECT_SAYS(std::string(error.what()), "no token of the vocabulary can follow");
  }
}

TEST(Grammar, a_token_outside_of_the_mask_is_refused) {
  const Tokenizer tokenizer = byte_level({"a", "b"});
  Walk walk(tokenizer, Kind::regex, "aab");
  EXPECT_THROW(walk += "b", Error);
  EXPECT_THROW(Walk(tokenizer, Kind::regex, "a").state.commit(99), Error);
}

TEST(Grammar, states_of_one_grammar_go_their_own_ways_in_threads) {
  const Grammar grammar = schema(R"({"type": "array", "items": {"type": "string"}})");
  const auto walk = [&](char letter, bool* good) {
    const std::string text =
        "[\"" + std::string(300, letter) + "\", \"" + std::string(200, letter) + "\"]";
    *good = accepts(grammar, text) && !accepts(grammar, text.substr(0, 300));
  };
  bool good[4] = {};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(walk, char('a' + i), &good[i]);
  for (std::thread& thread : threads) thread.join();
  for (const bool one : good) EXPECT_TRUE(one);
}

TEST(Grammar, schemas_accept_their_instances_alone) {
  struct Case {
    const char* schema;
    std::vector<const char*> good, bad;
  };
  const Case cases[] = {
      {R"({"type": "boolean"})", {"true", "false"}, {"null", "True", "\"true\""}},
      {R"({"type": "null"})", {"null"}, {"nul", "0"}},
      {"true", {"1", "[1, \"a\"]", "{\"x\": {\"y\": null}}"}, {"", "x"}},
      {R"({"type": "integer", "minimum": -5, "maximum": 12})",
       {"-5", "0", "12"},
       {"-6", "13", "012", "1.5", "+1"}},
      {R"({"type": "number", "minimum": 0, "exclusiveMaximum": 2})",
       {"0", "1.5", "0.25"},
       {"2", "-1", "3"}},
      {R"({"type": "integer", "multipleOf": 7, "minimum": 0})", {"0", "14", "70"}, {"15", "-7"}},
      {R"({"type": "number", "multipleOf": 0.05})", {"0.15", "2", "-1.10"}, {"0.16", "1.11"}},
      {R"({"type": "string", "minLength": 2, "maxLength": 3})",
       {"\"ab\"", "\"a\\nb\"", "\"\U0001F600é\""},
       {"\"a\"", "\"abcd\"", "ab", "\"a\nb\""}},
      {R"({"type": "string", "pattern": "^[a-c]+$"})", {"\"abc\""}, {"\"abd\"", "\"\""}},
      {R"({"type": "string", "format": "date"})", {"\"2024-02-29\""}, {"\"2024-2-29\""}},
      {R"({"type": "string", "format": "int32", "maxLength": 2})", {"\"ab\""}, {"\"abc\""}},
      {R"({"properties": {"format": {"const": {"format": "x"}}, "const": {"format": "password"}},
           "required": ["format", "const"]})",
       {R"({"format": {"format": "x"}, "const": "p"})"},
       {R"({"format": {}, "const": "p"})"}},
      {R"({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 5}, {"type": "null"}]})",
       {"3", "7", "null"},  // 7 by two of them, which is more than one
       {"true"}},
      {R"({"enum": ["red", 7, null]})", {"\"red\"", "7", "null"}, {"\"re\"", "8"}},
      {R"({"const": {"a": [1]}})", {"{\"a\":[1]}", "{\"a\": [1]}"}, {"{\"a\":[2]}", "{}"}},
      {R"({"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 2})",
       {"[1]", "[1,2]", "[1, 2]", "[\n  1,\n  2\n]"},
       {"[]", "[1,2,3]", "[1,  2]"}},
      {R"({"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}},
           "required": ["b"], "additionalProperties": false})",
       {"{\"b\":null}", "{\"a\":null,\"b\":null}"},
       {"{}", "{\"a\":null}", "{\"b\":null,\"c\":null}", "{\"b\":null,\"a\":null}"}},
      {R"({"anyOf": [{"type": "integer"}, {"type": "null"}]})", {"3", "null"}, {"true"}},
      {R"({"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "array", "maxItems": 1,
           "items": {"$ref": "#/$defs/tree"}}}})",
       {"[]", "[[[]]]"},
       {"[[],[]]", "[1]"}}};
  for (const Case& c : cases) {
    const Grammar grammar = schema(c.schema);
    for (const char* text : c.good) EXPECT_TRUE(accepts(grammar, text)) << c.schema << ' ' << text;
    for (const char* text : c.bad) EXPECT_FALSE(accepts(grammar, text)) << c.schema << ' ' << text;
  }
  const Grammar object(bytes(), Kind::json_object, "");
  EXPECT_TRUE(accepts(object, "{\"a\": [1.5e3, {}], \"b\": \"\\u0000\\\\\"}"));
  EXPECT_FALSE(accepts(object, "[]"));
}

TEST(Grammar, white_space_is_the_schemas_where_it_says) {
  const Grammar compact =
      schema(R"({"type": "array", "x-guidance": {"whitespace_flexible": false}})");
  EXPECT_TRUE(accepts(compact, "[1,2]"));
  EXPECT_FALSE(accepts(compact, "[1, 2]"));
}

TEST(Grammar, lark_grammars_nest) {
  const Grammar grammar(bytes(), Kind::lark, "start: \"(\" start \")\" | /[0-9]+/ (\"+\" start)?");
  EXPECT_TRUE(accepts(grammar, "((12))"));
  EXPECT_TRUE(accepts(grammar, "(1+(2))"));
  EXPECT_FALSE(accepts(grammar, "((12)"));
  EXPECT_FALSE(accepts(grammar, "()"));
}

TEST(Grammar, what_is_wrong_with_a_grammar_is_said) {
  const auto schema_failure = [](const char* text) { return failure(Kind::json_schema, text); };
  EXPECT_SAYS(schema_failure("{\"type\": "), "the JSON schema cannot be used: it is not JSON");
  EXPECT_SAYS(schema_failure("[]"), "neither an object nor true or false");
  EXPECT_SAYS(schema_failure(R"({"type": "strnig"})"), "strnig");
  EXPECT_SAYS(schema_failure(R"({"type": "array", "uniqueItems": true})"), "uniqueItems");
  EXPECT_SAYS(schema_failure(R"({"not": {"type": "string"}})"), "not");
  EXPECT_SAYS(schema_failure(R"({"type": "string", "format": 1})"), "format");
  const std::string one_of =
      failure(Kind::lark, R"(start: %json {"oneOf": [{"type": "integer"}, {"type": "number"}]})");
  EXPECT_SAYS(one_of, "oneOf constraints are not supported.");
  EXPECT_EQ(one_of.find("coerce"), std::string::npos);
  EXPECT_SAYS(schema_failure(R"({"$ref": "#/$defs/none"})"), "none");
  EXPECT_SAYS(schema_failure(R"({"$ref": "https://example.com/s.json"})"), "example.com");
  EXPECT_SAYS(schema_failure(R"({"type": "integer", "minimum": 3, "maximum": 2})"), "minimum");
  EXPECT_SAYS(schema_failure("false"), "nsatisfiable");
  EXPECT_SAYS(schema_failure(R"({"type": "string", "pattern": "("})"), "unclosed group");
  EXPECT_SAYS(schema_failure(R"({"x-guidance": {"no_such_option": 1}})"), "no_such_option");
  EXPECT_SAYS(failure(Kind::regex, "a("), "the regular expression cannot be used");
  EXPECT_SAYS(failure(Kind::regex, "(a)\\1"), "backreferences are not supported");
  EXPECT_SAYS(failure(Kind::lark, "start: missing"), "missing");
  EXPECT_SAYS(failure(Kind::lark, "begin: \"a\""), "start");
  EXPECT_SAYS(failure(Kind::lark, ""), "the Lark grammar cannot be used");
  EXPECT_SAYS(failure(Kind::lark, "start: <no_such_token>"), "no_such_token");
  EXPECT_SAYS(failure(Kind::regex, "\xFF"), "utf-8");
}

std::string repeated(std::string_view text, size_t count) {
  std::string out;
  for (size_t i = 0; i < count; ++i) out += text;
  return out;
}

// A schema that takes more memory to compile than there may be.
std::string beyond_memory() {
  std::string all = "{\"allOf\": [";
  for (int i = 1; i < 20; ++i)
    all += fmt::format("{{\"type\": \"string\", \"pattern\": \".*a.{{{}}}b\"}},", i);
  return all + "true]}";
}

// Small models invent members where a schema that names some does not forbid others.
TEST(Grammar, an_object_whose_members_are_named_has_no_others_unless_its_schema_says_so) {
  struct Case {
    const char *schema, *taken, *refused;  // refused: nullptr where nothing is
  };
  const Case cases[] = {
      {R"({"properties": {"a": {}}})", R"({"a":1})", R"({"a":1,"b":2})"},
      {R"({"properties": {"a": {}}, "additionalProperties": true})", R"({"a":1,"b":2})", nullptr},
      {R"({"properties": {"a": {}}, "additionalProperties": {"type": "null"}})", R"({"b":null})",
       R"({"b":2})"},
      {R"({"properties": {"a": {}}, "patternProperties": {"^x": {}}})", R"({"b":2})", nullptr},
      {R"({"type": "object"})", R"({"b":2})", nullptr},
      {R"({"type": "object", "properties": {}})", "{}", R"({"b":2})"},
      // At any depth.
      {R"({"properties": {"a": {"items": {"properties": {"c": {}}}}}})", R"({"a":[{"c":1}]})",
       R"({"a":[{"d":1}]})"},
      {R"({"additionalProperties": {"properties": {"c": {}}}})", R"({"x":{"c":1}})",
       R"({"x":{"d":1}})"},
      {R"({"anyOf": [{"properties": {"c": {}}, "type": "object"}, {"type": "null"}]})",
       R"({"c":1})", R"({"d":1})"},
      {R"({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"properties": {"c": {}}}}})",
       R"({"a":{"c":1}})", R"({"a":{"d":1}})"},
      {R"({"$ref": "#/definitions/A", "definitions": {"A": {"properties": {"c": {}}}}})",
       R"({"c":1})", R"({"d":1})"},
      // Names that are keywords, and data that look like schemas.
      {R"({"properties": {"properties": {"type": "string"}}})", R"({"properties":"x"})",
       R"({"b":2})"},
      {R"({"properties": {"properties": {"properties": {"allOf": {}}}}})",
       R"({"properties":{"allOf":1}})", R"({"properties":{"b":2}})"},
      {R"({"const": {"properties": {"a": 1}}})", R"({"properties":{"a":1}})", R"({"a":1})"},
      {R"({"enum": [{"allOf": 1, "properties": {}}]})", R"({"allOf":1,"properties":{}})", "{}"},
      // Parts that hold at once would contradict each other.
      {R"({"allOf": [{"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {}}}]})",
       R"({"a":1,"b":2})", R"({"a":"x"})"},
      {R"({"properties": {"a": {"properties": {"c": {}}}, "z": {"allOf": [{"type": "null"}]}}})",
       R"({"a":{"d":1},"b":2})", R"({"z":1})"},
      {R"({"properties": {"a": {}}, "anyOf": [{"properties": {"b": {"type": "integer"}}}]})",
       R"({"a":1,"b":2})", R"({"b":"x"})"},
      {R"({"required": ["a", "b"], "anyOf": [{"properties": {"a": {"type": "integer"}}}]})",
       R"({"a":1,"b":2})", R"({"a":"x","b":2})"},
      // As would a member that must be there and is not named.
      {R"({"properties": {"a": {}}, "required": ["b"]})", R"({"a":1,"b":2})", R"({"a":1})"},
  };
  for (const auto& [text, taken, refused] : cases) {
    const Grammar grammar = schema(text);
    EXPECT_TRUE(accepts(grammar, taken)) << text << " " << taken;
    if (refused) {
      EXPECT_FALSE(accepts(grammar, refused)) << text << " " << refused;
    }
  }
  const Grammar tool(bytes(), Kind::lark, "start: schema_0",
                     std::vector<std::string>{R"({"properties": {"a": {}}})"});
  EXPECT_TRUE(accepts(tool, R"({"a":1})"));
  EXPECT_FALSE(accepts(tool, R"({"b":1})"));
}

// Each is used or refused, in time, and whatever it was, the next one works.
TEST(Grammar, hostile_grammars_do_no_harm) {
  const std::string deep_schema = repeated(R"({"items": )", 5000) + "{}" + repeated("}", 5000);
  EXPECT_SAYS(failure(Kind::json_schema, deep_schema), "recursion limit");
  EXPECT_SAYS(failure(Kind::regex, repeated("(", 5000) + "a" + repeated(")", 5000)),
              "number of nested parentheses");
  EXPECT_SAYS(failure(Kind::regex, std::string(300 << 10, 'a')), "at most 262144");
  const char* multiple = "multipleOf: the least common multiple";
  EXPECT_SAYS(failure(Kind::json_schema, R"({"type": "integer", "multipleOf": 1000003})"),
              multiple);
  EXPECT_SAYS(
      failure(Kind::json_schema, R"({"allOf": [{"multipleOf": 997}, {"multipleOf": 991}]})"),
      multiple);
  EXPECT_SAYS(failure(Kind::json_schema, R"({"multipleOf": 1e300})"), multiple);
  EXPECT_SAYS(failure(Kind::lark, R"(start: %json {"multipleOf": 1000003})"), "multipleOf");
  // On a machine that is busy otherwise, its time may be over before.
  const std::string big = failure(Kind::json_schema, beyond_memory());
  EXPECT_TRUE(big.find("bytes of memory") != big.npos || big.find("it takes more") != big.npos)
      << big;
  const std::pair<Kind, std::string> texts[] = {
      {Kind::regex, "(a*)*b"},
      {Kind::regex, "(a|aa)+$"},
      {Kind::regex, "(x+x+)+y"},
      {Kind::regex, "a{1000000000}"},
      {Kind::regex, "(((a{1000}){1000}){1000}){1000}"},
      {Kind::regex, "(a{1,30000}b?){1,30000}"},
      {Kind::regex, "[a-z]*" + repeated("[a-z]?", 3000) + "[0-9]{3000}"},
      {Kind::regex, "(.*a.{20000}|.*b.{20000})"},
      {Kind::json_schema, R"({"type": "string", "maxLength": 1000000000000})"},
      {Kind::json_schema, R"({"type": "string", "minLength": 4000000000})"},
      {Kind::json_schema, R"({"type": "array", "minItems": 1000000000})"},
      {Kind::json_schema,
       R"({"type": "array", "maxItems": 18446744073709551615, "items": {"type": "null"}})"},
      {Kind::json_schema,
       R"({"type": "array", "minItems": 100000, "maxItems": 100001,
                             "items": {"type": "array", "minItems": 100000}})"},
      {Kind::json_schema, R"({"type": "integer", "minimum": -1e300, "maximum": 1e300})"},
      {Kind::json_schema, R"({"type": "integer", "multipleOf": 99991})"},
      {Kind::json_schema, R"({"type": "number", "multipleOf": 0.1234})"},
      {Kind::json_schema, R"({"allOf": [{"$ref": "#"}]})"},
      {Kind::json_schema, R"({"$ref": "#"})"},
      {Kind::json_schema, R"({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]})"},
      {Kind::json_schema, R"({"x-guidance": {"whitespace_pattern": "((a*)*)*"}})"},
      {Kind::json_schema, "{\"enum\": [" + repeated("\"abcdefgh\",", 20000) + "1]}"},
      {Kind::json_schema, "{\"allOf\": [" +
                              repeated(R"({"anyOf": [{"minLength": 1}, {"maxLength": 9}]},)", 40) +
                              "true]}"},
      {Kind::lark, "start: " + repeated("(", 100000) + "\"a\"" + repeated(")", 100000)},
      {Kind::lark, "start: " + repeated("[", 100000)},
      {Kind::lark, "start: start start | \"a\" | \"\""},
      {Kind::lark, "start: start"},
      {Kind::lark, "start: \"a\"~1000000000"},
      {Kind::lark, "start: a~1..30000\na: b~1..30000\nb: \"x\"~1..30000"},
      {Kind::lark, "start: " + repeated("\"a\"? ", 3000)},
      {Kind::lark, "%llguidance {\"no_forcing\": " + repeated("[", 50000)},
  };
  for (const auto& [kind, text] : texts) {
    const std::clock_t start = std::clock();  // of all threads, however busy the machine is
    const std::string said = failure(kind, text);
    const double seconds = double(std::clock() - start) / CLOCKS_PER_SEC;
    if (std::getenv("MS_SHOW"))
      fmt::print("{:6.2f} s  {}  ->  {}\n", seconds, text.substr(0, 70), said.substr(0, 200));
    EXPECT_LT(seconds, 30) << text.substr(0, 70);
    EXPECT_TRUE(accepts(schema(R"({"type": "boolean"})"), "true"));
  }
}

class GrammarOf : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, GrammarOf,
                         testing::Values("tales-31m", "ggml-vocab-gpt-2", "ggml-vocab-llama-spm",
                                         "ggml-vocab-deepseek-llm", "ggml-vocab-phi-3"),
                         [](const auto& info) { return testing::PrintToString(info.index); });

TEST_P(GrammarOf, a_real_vocabulary_allows_the_tokens_of_a_text_that_holds) {
  const auto file = model_file(GetParam());
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file;
  const Tokenizer tokenizer = Tokenizer::from_file(open_model(file));
  const std::string object = "{\"name\": \"Zo\u00eb \U0001F600 \u4e2d\", \"age\": 7}";
  const Kind kind = tokenizer.space_prefix() ? Kind::lark : Kind::json_schema;
  const std::string schema =
      R"({"type": "object", "required": ["name", "age"], "additionalProperties": false,
          "properties": {"name": {"type": "string", "maxLength": 20},
                         "age": {"type": "integer", "minimum": 0, "maximum": 9}}})";
  // A space in front of a text is a part of its first token.
  Walk walk(tokenizer, kind,
            kind == Kind::lark ? "start: \" \" object\nobject: %json " + schema : schema);
  const auto tokens = tokenizer.encode(object, {.add_special = false, .parse_special = false});
  ASSERT_GT(tokens.size(), 10u);
  for (const uint32_t token : tokens) {
    EXPECT_FALSE(walk.ended);
    walk.ends = walk.state.mask(walk.words);
    EXPECT_FALSE(walk.ends.may);
    ASSERT_TRUE(walk.allowed(token)) << tokenizer.piece(token);
    for (const uint32_t stop : tokenizer.stop_tokens()) EXPECT_FALSE(walk.allowed(stop));
    walk.ended = walk.state.commit(token);
  }
  EXPECT_TRUE(walk.ended);
}

TEST(Grammar, memory_that_is_lost_at_the_limits_has_one_itself) {
  if (!std::getenv("MAINSPRING_FULL")) GTEST_SKIP() << "takes long: needs MAINSPRING_FULL";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto lose = [] {
    for (int i = 0; i < 8; ++i) failure(Kind::json_schema, beyond_memory());
    const std::string said = failure(Kind::regex, "a");
    std::exit(said.find("until a restart") == std::string::npos ? 1 : 0);
  };
  EXPECT_EXIT(lose(), testing::ExitedWithCode(0), "");
}

}  // namespace
}  // namespace ms
