// constraint_test.cpp: what the built-in model writes under JSON schemas, judged by Python's
// jsonschema. With MAINSPRING_FULL: 20 schemas, 50 texts each; otherwise a few.
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/test_files.hpp"
#include "engine/engine.hpp"

namespace ms {
namespace {

using nlohmann::json;

// Whose longest instances have less than 900 bytes, so tokens, white space included.
constexpr const char* schemas[] = {
    R"({"type": "object", "required": ["name", "age"], "additionalProperties": false, "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120}}})",
    R"({"type": "array", "minItems": 1, "maxItems": 5, "items": {"type": "string", "maxLength": 10}})",
    R"({"anyOf": [{"type": "integer", "minimum": -9, "maximum": 9}, {"type": "null"},
        {"type": "array", "maxItems": 2, "items": {"type": "boolean"}}]})",
    R"({"type": "object", "required": ["kind"], "additionalProperties": false, "properties": {
        "kind": {"enum": ["fox", "bear", "a \"quoted\" one", 7, null, true]},
        "weight": {"type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 500}}})",
    R"({"type": "string", "pattern": "^[a-z]{2,8}( [a-z]{2,8}){0,3}$"})",
    // The rest for MAINSPRING_FULL.
    R"({"type": "boolean"})",
    R"({"type": "integer", "minimum": -1000, "maximum": 1000, "multipleOf": 5})",
    R"({"const": {"a": [1, {"b": "\u00e9\n"}], "c": {}}})",
    R"({"type": "string", "format": "date"})", R"({"type": "string", "format": "uuid"})",
    R"({"type": "string", "format": "ipv4"})",
    R"({"type": "string", "minLength": 30, "maxLength": 40})",
    R"({"type": "array", "prefixItems": [{"type": "integer", "minimum": 1, "maximum": 3},
        {"type": "string", "maxLength": 5}], "minItems": 2, "items": false})",
    R"({"type": "array", "minItems": 3, "maxItems": 3, "items": {"type": "array", "minItems": 2,
        "maxItems": 2, "items": {"type": "integer", "minimum": 0, "maximum": 99}}})",
    R"({"type": "object", "additionalProperties": false, "properties": {
        "a": {"type": "boolean"}, "b": {"type": "null"}, "c": {"const": "c"}, "d": {"enum": [1, 2]},
        "e": {"type": "string", "maxLength": 3}}})",
    R"({"$ref": "#/$defs/leaf", "$defs": {"leaf": {"type": "object", "required": ["value"],
        "additionalProperties": false, "properties": {"value": {"$ref": "#/$defs/number"}}},
        "number": {"type": "integer", "minimum": 10, "maximum": 99999}}})",
    R"({"oneOf": [{"type": "string", "maxLength": 8}, {"type": "integer", "minimum": 0,
        "maximum": 7}]})",
    R"({"allOf": [{"type": "integer", "minimum": 3}, {"maximum": 70}]})",
    R"({"type": "object", "required": ["who", "where", "say"], "additionalProperties": false,
        "properties": {"who": {"type": "object", "required": ["name"], "additionalProperties": false,
        "properties": {"name": {"type": "string", "minLength": 2, "maxLength": 12}}},
        "where": {"type": "array", "minItems": 1, "maxItems": 3, "items": {"enum": ["wood", "house",
        "sea"]}}, "say": {"type": ["string", "null"], "maxLength": 15}}})",
    R"({"type": "object", "required": ["x"], "additionalProperties": false, "properties": {
        "x": {"type": "string", "pattern": "^-?[0-9]{1,4}\\.[0-9]{2}$"},
        "\u00fc \"key\"": {"type": "string", "maxLength": 4}}})"};
static_assert(std::size(schemas) == 20);

TEST(Constraints, what_a_model_writes_under_a_schema_validates) {
  const auto built_in = std::filesystem::path(MS_SOURCE_DIR) / "models/tales-31m-q8_0.gguf";
  if (!exists(built_in)) GTEST_SKIP() << "needs " << built_in;
  const auto python = std::filesystem::path(MS_SOURCE_DIR) / ".deps/venv/bin/python";
  if (!exists(python)) GTEST_SKIP() << "needs " << python;
  const bool full = std::getenv("MAINSPRING_FULL") != nullptr;
  Engine engine(EngineOptions{.model = built_in});
  const char* prompts[] = {"Once upon a time there was", "{\"", "The answer is: "};
  std::string lines;
  size_t count = 0;
  for (const char* schema : std::span(schemas, full ? std::size(schemas) : 5))
    for (uint32_t seed = 0; seed < (full ? 50 : 2); ++seed, ++count) {
      const Generation g = engine.generate(
          engine.encode(prompts[seed % 3]),
          {.sampling = {.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = seed},
           .max_tokens = 900,
           .constraint = Constraint{Constraint::Kind::json_schema, schema}});
      EXPECT_EQ(g.finish, Finish::stop_token) << schema << '\n' << g.text;
      EXPECT_TRUE(json::accept(g.text)) << schema << '\n' << g.text;
      lines += json{{"schema", json::parse(schema)}, {"text", g.text}}.dump() + '\n';
    }
  const TemporaryFile file(lines);
  const std::string command = fmt::format("'{}' '{}/tests/validate.py' '{}' {}", python.string(),
                                          MS_SOURCE_DIR, file.path().string(), count);
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace ms
