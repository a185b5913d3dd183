// gguf.cpp: the parser, and a checked reader under it.
#include "formats/gguf.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <set>
#include <tuple>
#include <type_traits>

#include "base/error.hpp"

namespace ms {
namespace {

static_assert(std::endian::native == std::endian::little,
              "fields are read as they lie in the file");

constexpr uint32_t kArrayId = 9;          // the value type id of an array
constexpr uint64_t kMinEntryBytes = 14;   // key length and one byte, value type, a one-byte value
constexpr uint64_t kMinTensorBytes = 24;  // name length, dimension count, type, offset
constexpr uint64_t kMaxKeyBytes = 65535;  // the specification's, as are the next two
constexpr uint64_t kMaxNameBytes = 64;
constexpr uint32_t kMaxDimensions = 4;
constexpr uint64_t kMaxArrayElements = 1 << 30;  // the reference reader's; bounds what is allocated
constexpr uint64_t kMaxElements = std::numeric_limits<int64_t>::max();

// Reads fields one after the other; each is checked against the bytes that remain.
class Reader {
 public:
  Reader(std::string path, std::span<const std::byte> bytes)
      : path_(std::move(path)), bytes_(bytes) {}

  // What the coming fields belong to, for messages: "metadata entry 3".
  void enter(std::string subject) { subject_ = std::move(subject); }

  uint64_t position() const { return position_; }
  uint64_t remaining() const { return bytes_.size() - position_; }

  // Refuses the field that starts at byte `at`, with a predicate: "is 13, not a power of two".
  template <class... Args>
  [[noreturn]] void refuse(std::string_view field, uint64_t at, fmt::format_string<Args...> format,
                           Args&&... args) const {
    fail("cannot read {}: {}: {} at byte {} {}", path_, subject_, field, at,
         fmt::format(format, std::forward<Args>(args)...));
  }

  // A number, a bool (one byte, 0 or 1) or a string (a u64 length, then its bytes).
  template <class T>
  T read(std::string_view field) {
    if constexpr (std::is_same_v<T, std::string_view>) {
      return read_string(field, std::numeric_limits<uint64_t>::max());
    } else if constexpr (std::is_same_v<T, bool>) {
      const uint64_t at = position_;
      const auto value = read<uint8_t>(field);
      if (value > 1) refuse(field, at, "is {}; a bool is 0 or 1", value);
      return value == 1;
    } else {
      T value;
      std::memcpy(&value, take(field, sizeof value).data(), sizeof value);
      return value;
    }
  }

  std::string_view read_string(std::string_view field, uint64_t max_bytes) {
    const uint64_t at = position_;
    const auto length = read<uint64_t>(field);
    if (length > max_bytes) {
      refuse(field, at, "is {} bytes long; {} are allowed", length, max_bytes);
    }
    const auto text = take(field, length);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }

  // A u64 count of things that have at least min_bytes each.
  uint64_t read_count(std::string_view field, uint64_t min_bytes) {
    const uint64_t at = position_;
    const auto count = read<uint64_t>(field);
    const uint64_t room = remaining() / min_bytes;
    if (count > room) {
      refuse(field, at, "is {}, but the rest of the file has room for {}: is the file complete?",
             count, room);
    }
    return count;
  }

  template <class T>
  std::vector<T> read_vector(std::string_view field, uint64_t count) {
    std::vector<T> values(count);
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      const auto bytes = take(field, count * sizeof(T));
      if (count > 0) std::memcpy(values.data(), bytes.data(), bytes.size());
    } else {
      for (auto&& value : values) value = read<T>(field);
    }
    return values;
  }

 private:
  std::span<const std::byte> take(std::string_view field, uint64_t count) {
    if (count > remaining()) {
      refuse(field, position_, "needs {} bytes, but {} follow: is the file complete?", count,
             remaining());
    }
    const auto taken = bytes_.subspan(position_, count);
    position_ += count;
    return taken;
  }

  std::string path_;
  std::string subject_;
  std::span<const std::byte> bytes_;
  uint64_t position_ = 0;
};

// Returns visit(std::type_identity<T>()) for the type of a scalar's value type id, or nothing.
template <class Visit>
std::optional<ModelFile::Value> with_type(uint32_t id, Visit visit) {
  switch (id) {
    case 0:
      return visit(std::type_identity<uint8_t>());
    case 1:
      return visit(std::type_identity<int8_t>());
    case 2:
      return visit(std::type_identity<uint16_t>());
    case 3:
      return visit(std::type_identity<int16_t>());
    case 4:
      return visit(std::type_identity<uint32_t>());
    case 5:
      return visit(std::type_identity<int32_t>());
    case 6:
      return visit(std::type_identity<float>());
    case 7:
      return visit(std::type_identity<bool>());
    case 8:
      return visit(std::type_identity<std::string_view>());
    case 10:
      return visit(std::type_identity<uint64_t>());
    case 11:
      return visit(std::type_identity<int64_t>());
    case 12:
      return visit(std::type_identity<double>());
    default:
      return std::nullopt;
  }
}

template <class T>
ModelFile::Array read_array(Reader& in) {
  constexpr bool is_string = std::is_same_v<T, std::string_view>;
  constexpr uint64_t min_bytes = is_string ? sizeof(uint64_t) : sizeof(T);
  const uint64_t at = in.position();
  const uint64_t count = in.read_count("element count", min_bytes);
  if (count > kMaxArrayElements) {
    in.refuse("element count", at, "is {}; {} are allowed", count, kMaxArrayElements);
  }
  return in.read_vector<T>("element", count);
}

ModelFile::Value read_value(Reader& in) {
  uint64_t at = in.position();
  auto id = in.read<uint32_t>("value type");
  const bool is_array = id == kArrayId;
  if (is_array) {
    at = in.position();
    id = in.read<uint32_t>("element type");
    if (id == kArrayId) in.refuse("element type", at, "is an array; nested arrays are not read");
  }
  auto value = with_type(id, [&]<class T>(std::type_identity<T>) -> ModelFile::Value {
    if (is_array) return read_array<T>(in);
    return in.read<T>("value");
  });
  if (!value)
    in.refuse(is_array ? "element type" : "value type", at, "is {}, which is unknown", id);
  return *std::move(value);
}

uint32_t read_version(Reader& in) {
  in.enter("header");
  const auto magic = in.read<std::array<char, 4>>("magic");
  const std::string_view found(magic.data(), magic.size());
  if (found != "GGUF") in.refuse("magic", 0, "is {:?}, not \"GGUF\": not a GGUF file", found);
  const uint64_t at = in.position();
  const auto version = in.read<uint32_t>("version");
  if (version != 0 && (version & 0xffff) == 0) {
    in.refuse("version", at, "is {:#010x}, with its bytes swapped: convert this big-endian file",
              version);
  }
  if (version != 2 && version != 3) {
    in.refuse("version", at, "is {}; 2 and 3 are read: {}", version,
              version < 2 ? "convert the model again" : "a newer program is needed");
  }
  return version;
}

// What follows the version.
struct Parser {
  ModelFile& out;
  std::span<const std::byte> file;
  Reader in;
  uint64_t alignment = 32;  // bytes

  // Where the data of a tensor lies, relative to the data section.
  struct Placement {
    uint64_t offset, bytes;
    uint64_t field_at;  // of the offset in the file
  };
  std::vector<TensorInfo> tensors;
  std::vector<Placement> placements;  // of tensors
  std::set<std::string_view> names;   // of tensors

  void parse() {
    const auto n_tensors = in.read_count("tensor count", kMinTensorBytes);
    const auto n_entries = in.read_count("metadata count", kMinEntryBytes);
    for (uint64_t i = 0; i < n_entries; ++i) read_entry(i);
    for (uint64_t i = 0; i < n_tensors; ++i) read_tensor(i);
    if (n_tensors > 0) place_data();
    for (TensorInfo& tensor : tensors) out.add(std::move(tensor));
  }

  void read_entry(uint64_t i) {
    in.enter(fmt::format("metadata entry {}", i));
    uint64_t at = in.position();
    const auto key = in.read_string("key", kMaxKeyBytes);
    if (key.empty()) in.refuse("key", at, "is empty");
    if (out.find(key) != nullptr) in.refuse("key", at, "is {} a second time", in_quotes(key));

    in.enter(fmt::format("metadata {}", in_quotes(key)));
    at = in.position();
    ModelFile::Value value = read_value(in);
    if (key == "general.alignment") {
      const auto* bytes = std::get_if<uint32_t>(&value);
      if (bytes == nullptr) in.refuse("value type", at, "is {}, not u32", type_name(value));
      if (!std::has_single_bit(*bytes)) {
        in.refuse("value", at + sizeof(uint32_t), "is {}, not a power of two", *bytes);
      }
      alignment = *bytes;
    }
    out.set(key, std::move(value));
  }

  void read_tensor(uint64_t i) {
    in.enter(fmt::format("tensor info {}", i));
    const uint64_t name_at = in.position();
    const auto name = in.read_string("name", kMaxNameBytes);
    if (!names.insert(name).second) {
      in.refuse("name", name_at, "is {} a second time", in_quotes(name));
    }
    in.enter(fmt::format("tensor {}", in_quotes(name)));
    auto shape = read_shape();
    const uint64_t type_at = in.position();
    const auto id = in.read<uint32_t>("type");
    const TypeInfo* type = find_type(id);
    if (type == nullptr) in.refuse("type", type_at, "is {}, which is unknown or was withdrawn", id);

    TensorInfo tensor{.name = name, .type = type->type, .shape = std::move(shape), .data = {}};
    if (tensor.cols() % type->block_size != 0) {
      in.refuse("type", type_at, "is {}, whose blocks of {} do not divide rows of {}", type->name,
                type->block_size, tensor.cols());
    }
    uint64_t bytes;
    if (__builtin_mul_overflow(tensor.elements() / type->block_size, type->block_bytes, &bytes)) {
      in.refuse("type", type_at, "is {}, of which {} elements exceed 2^64 bytes", type->name,
                tensor.elements());
    }
    const uint64_t offset_at = in.position();
    placements.push_back({in.read<uint64_t>("data offset"), bytes, offset_at});
    tensors.push_back(std::move(tensor));
  }

  std::vector<uint64_t> read_shape() {
    const uint64_t at = in.position();
    const auto dimensions = in.read<uint32_t>("dimension count");
    if (dimensions > kMaxDimensions) {
      in.refuse("dimension count", at, "is {}; {} are allowed", dimensions, kMaxDimensions);
    }
    std::vector<uint64_t> shape(dimensions);
    uint64_t product = 1;  // of the dimensions that are not 0, so rows() and cols() fit as well
    for (uint64_t& dimension : shape) {
      const uint64_t dimension_at = in.position();
      dimension = in.read<uint64_t>("dimension");
      if (dimension > kMaxElements / product) {
        in.refuse("dimension", dimension_at, "is {}, which makes 2^63 elements or more", dimension);
      }
      product *= std::max<uint64_t>(dimension, 1);
    }
    std::reverse(shape.begin(), shape.end());
    return shape;
  }

  void place_data() {
    const uint64_t start = (in.position() + alignment - 1) / alignment * alignment;
    in.enter("tensor data");
    if (start > file.size()) {
      in.refuse("start", start,
                "(alignment {}) is beyond the {} bytes of the file: is it complete?", alignment,
                file.size());
    }
    const auto section = file.subspan(start);
    for (size_t i = 0; i < placements.size(); ++i) {
      const auto& [offset, bytes, at] = placements[i];
      in.enter(fmt::format("tensor {}", in_quotes(tensors[i].name)));
      if (offset % alignment != 0) {
        in.refuse("data offset", at, "is {}, not a multiple of the alignment {}", offset,
                  alignment);
      }
      if (offset > section.size() || bytes > section.size() - offset) {
        in.refuse(
            "data offset", at,
            "is {}: the tensor's {} bytes end beyond the file's {} bytes of data: is the file "
            "complete?",
            offset, bytes, section.size());
      }
      tensors[i].data = section.subspan(offset, bytes);
    }
    refuse_overlap();
  }

  void refuse_overlap() {
    std::sort(placements.begin(), placements.end(), [](const Placement& a, const Placement& b) {
      return std::tie(a.offset, a.bytes) < std::tie(b.offset, b.bytes);
    });
    in.enter("tensor data");
    uint64_t end = 0;
    for (const auto& [offset, bytes, at] : placements) {
      if (bytes > 0 && offset < end) {
        in.refuse("data offset", at, "is {}, inside another tensor's data", offset);
      }
      end = std::max(end, offset + bytes);
    }
  }
};

ModelFile read_part(const std::filesystem::path& path) {
  MappedFile mapped(path);
  const auto bytes = mapped.bytes();
  Reader in(path.string(), bytes);
  const uint32_t version = read_version(in);
  ModelFile file(path, fmt::format("GGUF version {}", version));
  file.keep(std::move(mapped));
  Parser{
      .out = file, .file = bytes, .in = std::move(in), .tensors = {}, .placements = {}, .names = {}}
      .parse();
  return file;
}

uint64_t part_count(const ModelFile& file) { return file.find_uint("split.count").value_or(1); }

// The end of the file name of part `number`, counted from 0.
std::string part_suffix(uint64_t number, uint64_t count) {
  return fmt::format("-{:05}-of-{:05}.gguf", number + 1, count);
}

// A part's own account of its place.
void check_place(const ModelFile& file, uint64_t number, uint64_t count) {
  const uint64_t own_number = file.get_uint("split.no"), own_count = part_count(file);
  if (own_number != number || own_count != count) {
    fail("{}: split.no is {} and split.count {}, where {} and {} are needed", file.path().string(),
         own_number, own_count, number, count);
  }
}

// The model of which `opened` is a part. Its metadata are those of the first part.
ModelFile join_parts(ModelFile opened) {
  const uint64_t count = part_count(opened), number = opened.get_uint("split.no");
  const std::filesystem::path path = opened.path();
  const std::string name = path.filename().string(), suffix = part_suffix(number, count);
  if (number >= count) {
    fail("{}: split.no is {}, but split.count is {}", path.string(), number, count);
  }
  if (!name.ends_with(suffix)) {
    fail("{}: it is part {} of {}, but its name does not end with {}, by which parts are found",
         path.string(), number + 1, count, suffix);
  }
  const std::string stem = name.substr(0, name.size() - suffix.size());
  const auto read = [&](uint64_t part) {
    const auto other = path.parent_path() / (stem + part_suffix(part, count));
    std::error_code unreadable;  // which reading the part says in full
    if (!std::filesystem::exists(other, unreadable) && !unreadable) {
      fail("{}: this part of {} is missing; all {} must lie in one folder", other.string(),
           path.string(), count);
    }
    return read_part(other);
  };

  std::optional<ModelFile> whole;
  for (uint64_t part = 0; part < count; ++part) {
    ModelFile file = part == number ? std::move(opened) : read(part);
    check_place(file, part, count);
    if (!whole) {
      whole = std::move(file);
      continue;
    }
    for (const TensorInfo& tensor : file.tensors()) {
      if (!whole->add(tensor)) {
        fail("{}: tensor {} is in an earlier part, too", file.path().string(),
             in_quotes(tensor.name));
      }
    }
    whole->keep(std::move(file));
  }
  const uint64_t tensors = whole->get_uint("split.tensors.count");
  if (whole->tensors().size() != tensors) {
    fail("{}: the {} parts hold {} tensors, but split.tensors.count is {}", whole->path().string(),
         count, whole->tensors().size(), tensors);
  }
  return *std::move(whole);
}

}  // namespace

ModelFile read_gguf(const std::filesystem::path& path) {
  ModelFile file = read_part(path);
  return part_count(file) > 1 ? join_parts(std::move(file)) : std::move(file);
}

}  // namespace ms
