// json.cpp: the parser's callback, which refuses what it must, and the checked look-ups.
#include "formats/json.hpp"

#include <cmath>
#include <set>
#include <vector>

#include "base/error.hpp"
#include "base/mapped_file.hpp"
#include "formats/model_file.hpp"

namespace ms {
namespace {

constexpr size_t kMaxBytes = 16 << 20;  // what it becomes in memory is up to some 20 times as large
constexpr int kMaxDepth = 64;

}  // namespace

Json parse_json(std::string_view text, const std::string& source, std::string_view only) {
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  bool skipped = false;                     // the member of the outermost object
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    using Event = Json::parse_event_t;
    if (event == Event::object_start || event == Event::array_start) {
      if (depth >= kMaxDepth)
        fail("cannot read {}: it is nested deeper than {}", source, kMaxDepth);
    }
    if (event == Event::key && depth == 1) {
      skipped = !only.empty() && value.get_ref<const std::string&>() != only;
    }
    if (skipped && depth >= 1) return event != Event::key || depth > 1;
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second) {
      fail("cannot read {}: the key {} stands twice in an object", source,
           in_quotes(value.get_ref<const std::string&>()));
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::parse_error& error) {
    fail("cannot read {}: it is no JSON at byte {}", source, error.byte);
  } catch (const Json::exception& error) {  // a number beyond a double
    fail("cannot read {}: {}", source, error.what());
  }
}

bool is_there(const std::filesystem::path& path) {
  std::error_code unreadable;
  return std::filesystem::exists(path, unreadable) || unreadable;
}

JsonObject JsonObject::read(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  if (bytes.size() > kMaxBytes) {
    fail("cannot read {}: it has {} bytes; {} are allowed", path.string(), bytes.size(), kMaxBytes);
  }
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  return {path.string(), parse_json(text, path.string())};
}

JsonObject JsonObject::read_if_there(const std::filesystem::path& path) {
  return is_there(path) ? read(path) : JsonObject(path.string(), Json::object());
}

JsonObject::JsonObject(std::string source, Json value)
    : source_(std::move(source)), value_(std::move(value)) {
  if (!value_.is_object()) fail("{}: it is {}, not an object", source_, value_.type_name());
}

void JsonObject::refuse(std::string_view key, std::string_view predicate) const {
  fail("{}: {} {}", source_, in_quotes(key), predicate);
}

const Json* JsonObject::find(std::string_view key) const {
  const auto found = value_.find(std::string(key));
  return found != value_.end() && !found->is_null() ? &*found : nullptr;
}

std::optional<uint64_t> JsonObject::find_uint(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number_unsigned()) {
    refuse(key, fmt::format("is {}; a whole number, not negative, is needed",
                            value->is_number() ? value->dump() : value->type_name()));
  }
  return value->get<uint64_t>();
}

std::optional<double> JsonObject::find_number(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) refuse(key, fmt::format("is {}, not a number", value->type_name()));
  const double number = value->get<double>();
  if (!std::isfinite(number)) refuse(key, "is not finite");
  return number;
}

std::optional<bool> JsonObject::find_bool(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse(key, fmt::format("is {}, not a boolean", value->type_name()));
  return value->get<bool>();
}

const std::string* JsonObject::find_string(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return nullptr;
  if (!value->is_string()) refuse(key, fmt::format("is {}, not a string", value->type_name()));
  return &value->get_ref<const std::string&>();
}

std::optional<JsonObject> JsonObject::find_object(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) return std::nullopt;
  return JsonObject(fmt::format("{}: {}", source_, in_quotes(key)), *value);
}

const Json& JsonObject::get(std::string_view key) const {
  const Json* value = find(key);
  if (value == nullptr) refuse(key, "is missing");
  return *value;
}

uint64_t JsonObject::get_uint(std::string_view key) const { return get(key), *find_uint(key); }

double JsonObject::get_number(std::string_view key) const { return get(key), *find_number(key); }

const std::string& JsonObject::get_string(std::string_view key) const {
  return get(key), *find_string(key);
}

}  // namespace ms
