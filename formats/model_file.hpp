// model_file.hpp: a model as the rest of the engine reads it: metadata and tensors, whatever the
// format.
//
// The keys and the names of tensors are GGUF's: "llama.context_length", "blk.0.attn_q.weight". The
// readers of other formats translate to them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/mapped_file.hpp"
#include "base/tensor_type.hpp"

namespace ms {

// A tensor of a model file. Name and data point into memory of its ModelFile.
struct TensorInfo {
  std::string_view name;
  TensorType type;
  std::vector<uint64_t> shape;      // row-major, innermost last: the reverse of GGUF's ne
  std::span<const std::byte> data;  // whole blocks, row after row, at any address

  uint64_t elements() const;  // product of shape; 1 for a scalar
  uint64_t rows() const;      // product of all but the innermost dimension
  uint64_t cols() const;      // the innermost dimension; 1 for a scalar
};

class ModelFile {
 public:
  using Array = std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                             std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>,
                             std::vector<float>, std::vector<bool>, std::vector<std::string_view>,
                             std::vector<uint64_t>, std::vector<int64_t>,
                             std::vector<double>>;  // no nested arrays
  using Value = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                             std::string_view, uint64_t, int64_t, double, Array>;

  const std::filesystem::path& path() const { return path_; }
  std::string_view format() const { return format_; }  // for people: "GGUF version 3"
  uint64_t mapped_bytes() const;                       // of all files that it keeps open

  const std::map<std::string_view, Value>& metadata() const { return metadata_; }
  const Value* find(std::string_view key) const;  // null when absent

  // Typed look-ups: nothing when the key is absent; an Error naming key and types when it holds
  // another kind.
  std::optional<uint64_t> find_uint(std::string_view key) const;  // any integer type, not negative
  std::optional<double> find_float(std::string_view key) const;   // f32, f64 or any integer
  std::optional<bool> find_bool(std::string_view key) const;
  std::optional<std::string_view> find_string(std::string_view key) const;
  const std::vector<std::string_view>* find_strings(std::string_view key) const;
  const std::vector<float>* find_floats(std::string_view key) const;
  // An array of any integer type.
  std::optional<std::vector<int64_t>> find_ints(std::string_view key) const;

  // The same, required: an Error that names the missing key.
  uint64_t get_uint(std::string_view key) const;
  double get_float(std::string_view key) const;
  std::string_view get_string(std::string_view key) const;

  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  const TensorInfo* find_tensor(std::string_view name) const;  // null when absent

  // For the readers of formats.
  ModelFile(std::filesystem::path path, std::string format);
  // Memory that lives as long as this does, at the same address even when this is moved.
  std::span<const std::byte> keep(MappedFile file);
  std::string_view keep(std::string text);
  std::span<std::byte> allocate(size_t bytes);
  void keep(ModelFile&& other);  // all its memory; its metadata and tensors stay behind
  // False where the key or the name is there already. Strings in them must be kept.
  bool set(std::string_view key, Value value);
  bool add(TensorInfo tensor);

 private:
  std::filesystem::path path_;
  std::string format_;
  std::list<MappedFile> files_;
  std::list<std::string> texts_;
  std::list<std::vector<std::byte>> buffers_;
  std::map<std::string_view, Value> metadata_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string_view, size_t> tensor_index_;
};

// The name of a value's type, or of its elements': "u32".
std::string_view element_type(const ModelFile::Value& value);
// For messages: "u32", "an array of u32"; and text of a file: quoted, escaped, not endless.
std::string type_name(const ModelFile::Value& value);
std::string in_quotes(std::string_view text);

// Reads a GGUF file, or a folder from Hugging Face, which has a config.json. Throws Error that
// names the file, and what in it is wrong.
ModelFile open_model(const std::filesystem::path& path);

}  // namespace ms
