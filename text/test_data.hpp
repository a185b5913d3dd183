// test_data.hpp: for tests only: the files of testdata/ and the models that tests read.
#pragma once
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.hpp"
#include "base/test_files.hpp"

namespace ms {

inline std::filesystem::path testdata(std::string_view name) {
  return std::filesystem::path(MS_SOURCE_DIR) / "text" / "testdata" / name;
}

inline nlohmann::ordered_json read_json(const std::filesystem::path& path) {
  return nlohmann::ordered_json::parse(read_file(path));
}

inline std::vector<std::string> split(std::string_view text, std::string_view separator) {
  std::vector<std::string> out;
  for (size_t end; (end = text.find(separator)) != text.npos;
       text.remove_prefix(end + separator.size())) {
    out.emplace_back(text.substr(0, end));
  }
  out.emplace_back(text);
  return out;
}

// Where `name` lies: the built-in and the small models in the shared folder, the real ones in the
// cache folder of tools/get-model.
inline std::filesystem::path model_file(const std::string& name) {
  if (name == "tales-31m") return shared_folder() / "models/tales-31m/tales-31m-q8_0.gguf";
  if (name.starts_with("ggml-vocab"))
    return shared_folder() / "tokenizers" / name / (name + ".gguf");
  const char* cache = std::getenv("XDG_CACHE_HOME");
  const char* home = std::getenv("HOME");
  const std::filesystem::path base =
      cache != nullptr ? cache : std::filesystem::path(home != nullptr ? home : ".") / ".cache";
  const std::filesystem::path models = base / "mainspring" / "models";
  return name.starts_with("minilm") ? models / name : models / (name + ".gguf");  // a folder
}

// FNV-1a of 32 bits, in hexadecimal digits, as in testdata/make_expectations.py.
inline std::string hash_of(std::string_view bytes) {
  uint32_t hash = 0x811C9DC5;
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x01000193;
  return fmt::format("{:08x}", hash);
}

inline std::string hash_of(std::span<const uint32_t> ids) {
  return hash_of(std::string_view(reinterpret_cast<const char*>(ids.data()), ids.size_bytes()));
}

}  // namespace ms
