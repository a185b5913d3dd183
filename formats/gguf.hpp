// gguf.hpp: a reader of GGUF model files, versions 2 and 3 (little-endian), memory-mapped.
//
// Follows the GGUF specification (ggml/docs/gguf.md). Every count, offset and size from the file is
// checked before use; a file that lies is an Error that names the file, the field and the byte
// offset. Tensors may lie in any order and with gaps; they may not overlap, so all of them together
// are no larger than the file.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/mapped_file.hpp"
#include "base/tensor_type.hpp"

namespace ms {

// A tensor of a model file. Name and data point into the mapping of its Gguf.
struct TensorInfo {
  std::string_view name;
  TensorType type;
  std::vector<uint64_t> shape;      // row-major, innermost last: the reverse of GGUF's ne
  std::span<const std::byte> data;  // whole blocks, row after row

  uint64_t elements() const;  // product of shape; 1 for a scalar
  uint64_t rows() const;      // product of all but the innermost dimension
  uint64_t cols() const;      // the innermost dimension; 1 for a scalar
};

class Gguf {
 public:
  using Array = std::variant<std::vector<uint8_t>, std::vector<int8_t>, std::vector<uint16_t>,
                             std::vector<int16_t>, std::vector<uint32_t>, std::vector<int32_t>,
                             std::vector<float>, std::vector<bool>, std::vector<std::string_view>,
                             std::vector<uint64_t>, std::vector<int64_t>,
                             std::vector<double>>;  // nested arrays are refused
  using Value = std::variant<uint8_t, int8_t, uint16_t, int16_t, uint32_t, int32_t, float, bool,
                             std::string_view, uint64_t, int64_t, double, Array>;

  static Gguf open(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  uint32_t version() const { return version_; }
  uint64_t alignment() const { return alignment_; }  // bytes

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

 private:
  struct Parser;

  explicit Gguf(MappedFile file) : file_(std::move(file)) {}

  MappedFile file_;
  std::filesystem::path path_;
  uint32_t version_ = 0;
  uint64_t alignment_ = 32;
  std::map<std::string_view, Value> metadata_;
  std::vector<TensorInfo> tensors_;
  std::map<std::string_view, size_t> tensor_index_;
};

}  // namespace ms
