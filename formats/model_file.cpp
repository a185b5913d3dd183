// model_file.cpp: the typed look-ups, and the choice of a reader.
#include "formats/model_file.hpp"

#include <type_traits>
#include <utility>

#include "base/error.hpp"
#include "formats/gguf.hpp"
#include "formats/hugging_face.hpp"

namespace ms {

namespace {

// The scalar types by their place in ModelFile::Value, which is also their place in
// ModelFile::Array.
constexpr std::string_view kScalarNames[] = {"u8",  "i8",   "u16",    "i16", "u32", "i32",
                                             "f32", "bool", "string", "u64", "i64", "f64"};
static_assert(std::variant_size_v<ModelFile::Value> == std::size(kScalarNames) + 1);
static_assert(std::variant_size_v<ModelFile::Array> == std::size(kScalarNames));

[[noreturn]] void fail_type(const ModelFile& file, std::string_view key, std::string_view wanted) {
  fail("{}: metadata {} is {}; {} is needed", file.path().string(), in_quotes(key),
       type_name(*file.find(key)), wanted);
}

template <class T>
T required(const ModelFile& file, std::string_view key, const std::optional<T>& value) {
  if (!value) {
    fail("{}: metadata {} is missing: is this the right file?", file.path().string(),
         in_quotes(key));
  }
  return *value;
}

// The value of a key if it is a T, null if the key is absent; an Error if it is another type.
template <class T>
const T* find_exact(const ModelFile& file, std::string_view key, std::string_view wanted) {
  const ModelFile::Value* value = file.find(key);
  if (value == nullptr) return nullptr;
  if constexpr (std::is_constructible_v<ModelFile::Array, T>) {
    if (const auto* array = std::get_if<ModelFile::Array>(value)) {
      if (const auto* exact = std::get_if<T>(array)) return exact;
    }
  } else {
    if (const auto* exact = std::get_if<T>(value)) return exact;
  }
  fail_type(file, key, wanted);
}

template <class T>
std::optional<T> copied(const T* value) {
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

template <class T>
constexpr bool is_integer = std::is_integral_v<T> && !std::is_same_v<T, bool>;

}  // namespace

ModelFile::ModelFile(std::filesystem::path path, std::string format)
    : path_(std::move(path)), format_(std::move(format)) {}

std::span<const std::byte> ModelFile::keep(MappedFile file) {
  return files_.emplace_back(std::move(file)).bytes();
}

std::string_view ModelFile::keep(std::string text) { return texts_.emplace_back(std::move(text)); }

std::span<std::byte> ModelFile::allocate(size_t bytes) { return buffers_.emplace_back(bytes); }

void ModelFile::keep(ModelFile&& other) {
  files_.splice(files_.end(), other.files_);
  texts_.splice(texts_.end(), other.texts_);
  buffers_.splice(buffers_.end(), other.buffers_);
}

bool ModelFile::set(std::string_view key, Value value) {
  return metadata_.emplace(key, std::move(value)).second;
}

bool ModelFile::add(TensorInfo tensor) {
  if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) return false;
  tensors_.push_back(std::move(tensor));
  return true;
}

uint64_t ModelFile::mapped_bytes() const {
  uint64_t sum = 0;
  for (const MappedFile& file : files_) sum += file.bytes().size();
  return sum;
}

std::string_view element_type(const ModelFile::Value& value) {
  const auto* array = std::get_if<ModelFile::Array>(&value);
  return kScalarNames[array != nullptr ? array->index() : value.index()];
}

std::string type_name(const ModelFile::Value& value) {
  const bool array = std::holds_alternative<ModelFile::Array>(value);
  return fmt::format("{}{}", array ? "an array of " : "", element_type(value));
}

std::string in_quotes(std::string_view text) { return fmt::format("{:?}", text.substr(0, 80)); }

const ModelFile::Value* ModelFile::find(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found != metadata_.end() ? &found->second : nullptr;
}

std::optional<uint64_t> ModelFile::find_uint(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  return std::visit(
      [&]<class T>(const T& number) -> uint64_t {
        if constexpr (is_integer<T>) {
          if (std::in_range<uint64_t>(number)) return static_cast<uint64_t>(number);
          fail("{}: metadata {} is {}; it must not be negative", path_.string(), in_quotes(key),
               number);
        }
        fail_type(*this, key, "an integer");
      },
      *value);
}

std::optional<double> ModelFile::find_float(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  return std::visit(
      [&]<class T>(const T& number) -> double {
        if constexpr (is_integer<T> || std::is_floating_point_v<T>) {
          return static_cast<double>(number);
        }
        fail_type(*this, key, "a number");
      },
      *value);
}

std::optional<bool> ModelFile::find_bool(std::string_view key) const {
  return copied(find_exact<bool>(*this, key, "bool"));
}

std::optional<std::string_view> ModelFile::find_string(std::string_view key) const {
  return copied(find_exact<std::string_view>(*this, key, "string"));
}

const std::vector<std::string_view>* ModelFile::find_strings(std::string_view key) const {
  return find_exact<std::vector<std::string_view>>(*this, key, "an array of string");
}

const std::vector<float>* ModelFile::find_floats(std::string_view key) const {
  return find_exact<std::vector<float>>(*this, key, "an array of f32");
}

std::optional<std::vector<int64_t>> ModelFile::find_ints(std::string_view key) const {
  const Value* value = find(key);
  if (value == nullptr) return std::nullopt;
  const auto* array = std::get_if<Array>(value);
  if (array == nullptr) fail_type(*this, key, "an array of integers");
  return std::visit(
      [&]<class T>(const std::vector<T>& values) -> std::vector<int64_t> {
        if constexpr (is_integer<T>) {
          for (const T value : values) {
            if (!std::in_range<int64_t>(value)) {
              fail("{}: metadata {} holds {}, beyond 2^63", path_.string(), in_quotes(key), value);
            }
          }
          return {values.begin(), values.end()};
        }
        fail_type(*this, key, "an array of integers");
      },
      *array);
}

uint64_t ModelFile::get_uint(std::string_view key) const {
  return required(*this, key, find_uint(key));
}

double ModelFile::get_float(std::string_view key) const {
  return required(*this, key, find_float(key));
}

std::string_view ModelFile::get_string(std::string_view key) const {
  return required(*this, key, find_string(key));
}

const TensorInfo* ModelFile::find_tensor(std::string_view name) const {
  const auto found = tensor_index_.find(name);
  return found != tensor_index_.end() ? &tensors_[found->second] : nullptr;
}

uint64_t TensorInfo::elements() const { return rows() * cols(); }

uint64_t TensorInfo::rows() const {
  uint64_t product = 1;
  for (size_t i = 0; i + 1 < shape.size(); ++i) product *= shape[i];
  return product;
}

uint64_t TensorInfo::cols() const { return shape.empty() ? 1 : shape.back(); }

ModelFile open_model(const std::filesystem::path& path) {
  std::error_code unreadable;  // which reading the file says in full
  const bool folder = std::filesystem::is_directory(path, unreadable);
  if (folder && is_there(path / "config.json")) return read_hugging_face(path);
  if (folder) {
    fail("{}: this folder has no config.json: give a GGUF file, or a folder from Hugging Face",
         path.string());
  }
  if (path.extension() == ".safetensors") {
    fail("{}: give the folder that holds it with its config.json", path.string());
  }
  return read_gguf(path);
}

}  // namespace ms
