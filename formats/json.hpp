// json.hpp: JSON files of a model folder: parsed with limits, read with checks.
//
// Refused are keys that stand twice in an object, of which parsers silently take one or the other,
// and deep nesting.
#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace ms {

using Json = nlohmann::json;

// `source` names the text in errors. With `only`, other members of the outermost object are skipped
// over and left out.
Json parse_json(std::string_view text, const std::string& source, std::string_view only = {});

// Whether there is such a file. One that cannot be reached, as behind a link that loops, counts as
// there: reading it says why.
bool is_there(const std::filesystem::path& path);

// An object. A member that is null counts as absent; one of another type is an Error that names the
// file and the member.
class JsonObject {
 public:
  // Throws Error: no such file, more than 16 MiB, no JSON object.
  static JsonObject read(const std::filesystem::path& path);
  // The same; an object without members where there is no such file.
  static JsonObject read_if_there(const std::filesystem::path& path);
  JsonObject(std::string source, Json value);

  const std::string& source() const { return source_; }  // of all of it, for messages
  const Json& json() const { return value_; }
  const Json* find(std::string_view key) const;
  std::optional<uint64_t> find_uint(std::string_view key) const;
  std::optional<double> find_number(std::string_view key) const;  // finite
  std::optional<bool> find_bool(std::string_view key) const;
  const std::string* find_string(std::string_view key) const;
  std::optional<JsonObject> find_object(std::string_view key) const;

  // The same, required.
  const Json& get(std::string_view key) const;
  uint64_t get_uint(std::string_view key) const;
  double get_number(std::string_view key) const;
  const std::string& get_string(std::string_view key) const;

  // Refuses a member, with a predicate: "is 3, of which …".
  [[noreturn]] void refuse(std::string_view key, std::string_view predicate) const;

 private:
  std::string source_;
  Json value_;
};

}  // namespace ms
