// gguf_builder.hpp: for tests only: makes the bytes of a valid GGUF file.
//
//   GgufBuilder().set("general.architecture", "llama").tensor("w", TensorType::q8_0, {2, 32},
//   values)
//       .bytes()
// A test that wants a flaw changes bytes afterwards: strings are easily found, and what follows
// them lies as the specification says.
#pragma once
#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/quantize.hpp"
#include "base/tensor_type.hpp"

namespace ms {

// A field as it lies in a file: numbers in their own bytes, a bool in one, a string after its u64
// length.
template <class T>
std::string gguf_field(const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    return {reinterpret_cast<const char*>(&value), sizeof value};
  } else {
    const std::string_view text(value);
    return gguf_field<uint64_t>(text.size()).append(text);
  }
}

class GgufBuilder {
 public:
  explicit GgufBuilder(uint32_t version = 3) : version_(version) {}

  // Metadata of any scalar type that GGUF has; strings in any form.
  template <class T>
  GgufBuilder& set(std::string_view key, const T& value) {
    return add_entry(key, gguf_field(value_type_id<T>()) + gguf_field(value));
  }
  template <class T>
  GgufBuilder& set(std::string_view key, const std::vector<T>& values) {
    std::string field = gguf_field<uint32_t>(9) + gguf_field(value_type_id<T>()) +
                        gguf_field<uint64_t>(values.size());
    for (const T value : values) field += gguf_field(value);
    return add_entry(key, field);
  }

  // Of the tensors that follow, in bytes; a power of two. Also written as metadata.
  GgufBuilder& alignment(uint32_t alignment) {
    alignment_ = alignment;
    return set("general.alignment", alignment);
  }

  // A tensor of whole blocks; the shape is row-major.
  GgufBuilder& tensor(std::string_view name, TensorType type, const std::vector<uint64_t>& shape,
                      std::span<const std::byte> data) {
    data_.resize((data_.size() + alignment_ - 1) / alignment_ * alignment_);
    infos_ += gguf_field(name) + gguf_field(static_cast<uint32_t>(shape.size()));
    for (auto dimension = shape.rbegin(); dimension != shape.rend(); ++dimension) {
      infos_ += gguf_field(*dimension);
    }
    infos_ += gguf_field(static_cast<uint32_t>(type)) + gguf_field<uint64_t>(data_.size());
    data_.append(reinterpret_cast<const char*>(data.data()), data.size());
    ++tensors_;
    return *this;
  }
  // The same from values, which are quantised.
  GgufBuilder& tensor(std::string_view name, TensorType type, const std::vector<uint64_t>& shape,
                      std::span<const float> values) {
    return tensor(name, type, shape, quantize(type, values));
  }

  // The file; nothing follows the data of the last tensor.
  std::string bytes() const {
    std::string file = "GGUF" + gguf_field(version_) + gguf_field(tensors_) + gguf_field(entries_) +
                       metadata_ + infos_;
    if (tensors_ > 0) file.resize((file.size() + alignment_ - 1) / alignment_ * alignment_);
    return file + data_;
  }

 private:
  template <class T>
  static constexpr uint32_t value_type_id() {
    if (std::is_same_v<T, bool>) return 7;
    if (std::is_same_v<T, float>) return 6;
    if (std::is_same_v<T, double>) return 12;
    if (!std::is_integral_v<T>) return 8;
    constexpr uint32_t unsigned_ids[] = {0, 2, 4, 10};  // of 1, 2, 4 and 8 bytes
    return unsigned_ids[std::bit_width(sizeof(T)) - 1] + std::is_signed_v<T>;
  }

  GgufBuilder& add_entry(std::string_view key, std::string_view value) {
    metadata_ += gguf_field(key).append(value);
    ++entries_;
    return *this;
  }

  uint32_t version_;
  uint64_t alignment_ = 32;
  uint64_t tensors_ = 0, entries_ = 0;
  std::string metadata_, infos_, data_;
};

// Values that are exact in f16: -7, -6, ...
inline std::vector<float> gguf_ramp(size_t count) {
  std::vector<float> values(count);
  for (size_t i = 0; i < count; ++i) values[i] = static_cast<float>(i) - 7;
  return values;
}

// A file with an entry of each type and tensors of several, small enough for exhaustive damage.
inline std::string small_gguf() {
  return GgufBuilder()
      .set("u8", uint8_t{200})
      .set("i8", int8_t{-5})
      .set("u16", uint16_t{60000})
      .set("i16", int16_t{-300})
      .set("u32", 4000000000u)
      .set("i32", -70000)
      .set("f32", 0.5f)
      .set("bool", true)
      .set("string", "text")
      .set("u64", UINT64_MAX)
      .set("i64", int64_t{-1} << 40)
      .set("f64", 1e300)
      .set("floats", std::vector<float>{1, 2})
      .set("strings", std::vector<std::string_view>{"a", "", "bc"})
      .set("bools", std::vector<bool>{true, false})
      .set("bytes", std::vector<int8_t>{-1, 2})
      .set("none", std::vector<uint64_t>{})
      .tensor("vector", TensorType::f32, {3}, gguf_ramp(3))
      .tensor("matrix", TensorType::q8_0, {2, 32}, gguf_ramp(64))
      .bytes();
}

}  // namespace ms
