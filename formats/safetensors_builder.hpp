// safetensors_builder.hpp: for tests only: makes the bytes of a valid safetensors file, and a
// folder as from Hugging Face.
#pragma once
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/test_files.hpp"

namespace ms {

// The length of a header, the header, what follows.
inline std::string safetensors_bytes(std::string_view header, std::string_view data = {}) {
  const uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes.append(header).append(data);
}

class SafetensorsBuilder {
 public:
  SafetensorsBuilder& tensor(const std::string& name, std::string_view dtype,
                             const std::vector<uint64_t>& shape, std::span<const std::byte> data) {
    const nlohmann::json properties = {
        {"dtype", dtype},
        {"shape", shape},
        {"data_offsets", {data_.size(), data_.size() + data.size()}}};
    add(name, properties);
    data_.append(reinterpret_cast<const char*>(data.data()), data.size());
    return *this;
  }
  SafetensorsBuilder& tensor(const std::string& name, const std::vector<uint64_t>& shape,
                             const std::vector<float>& values) {
    return tensor(name, "F32", shape, std::as_bytes(std::span(values)));
  }
  // At most once.
  SafetensorsBuilder& metadata(const std::string& key, const std::string& value) {
    add("__metadata__", {{key, value}});
    return *this;
  }

  std::string header() const { return "{" + members_ + "}"; }
  // `spaces`, which the header may end with, shift the data.
  std::string bytes(size_t spaces = 0) const {
    return safetensors_bytes(header() + std::string(spaces, ' '), data_);
  }

 private:
  void add(const std::string& name, const nlohmann::json& value) {
    if (!members_.empty()) members_ += ',';
    members_ += nlohmann::json(name).dump() + ":" + value.dump();
  }

  std::string members_, data_;
};

// A folder that files are written to.
class ModelFolder {
 public:
  const std::filesystem::path& path() const { return folder_.path(); }
  std::filesystem::path operator/(std::string_view name) const { return path() / name; }
  void write(std::string_view name, std::string_view bytes) const {
    std::ofstream(path() / name, std::ios::binary) << bytes;
  }

 private:
  TemporaryFolder folder_;
};

}  // namespace ms
