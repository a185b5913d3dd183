// safetensors.cpp: the header, read event by event: of a hundred thousand tensors, nothing is kept
// but the list.
#include "formats/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <tuple>
#include <utility>

#include "base/error.hpp"

namespace ms {
namespace {

static_assert(std::endian::native == std::endian::little,
              "numbers are read as they lie in the file");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the reference reader's
constexpr uint64_t kMaxElements = std::numeric_limits<int64_t>::max();

// The format's types, with the bits of an element.
constexpr std::pair<std::string_view, uint64_t> kTypes[] = {
    {"BOOL", 8}, {"U8", 8},   {"I8", 8},   {"F8_E5M2", 8}, {"F8_E4M3", 8},
    {"I16", 16}, {"U16", 16}, {"F16", 16}, {"BF16", 16},   {"I32", 32},
    {"U32", 32}, {"F32", 32}, {"F64", 64}, {"I64", 64},    {"U64", 64}};

struct Entry {
  SafeTensor tensor;
  uint64_t begin = 0, end = 0;
};

// Where the parser is: inside the header, a tensor, one of its lists; or inside "__metadata__".
enum class Place { outside, header, tensor, shape, offsets, metadata };

class HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  HeaderReader(std::string path, ModelFile& keeper) : path_(std::move(path)), keeper_(keeper) {}

  std::vector<Entry> entries;

  template <class... Args>
  [[noreturn]] void refuse(fmt::format_string<Args...> format, Args&&... args) const {
    fail("cannot read {}: {}", path_, fmt::format(format, std::forward<Args>(args)...));
  }

  bool start_object(size_t) override {
    if (place_ == Place::outside) {
      place_ = Place::header;
    } else if (place_ == Place::header) {
      const bool metadata = name_ == "__metadata__";
      place_ = metadata ? Place::metadata : Place::tensor;
      if (!metadata) entry_ = {};
    } else {
      unexpected("an object");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::tensor) finish_tensor();
    place_ = place_ == Place::header ? Place::outside : Place::header;
    return true;
  }

  bool key(std::string& key) override {
    if (place_ == Place::header) {
      name_ = keeper_.keep(std::move(key));
      if (!names_.insert(name_).second)
        refuse("tensor {} stands twice in the header", in_quotes(name_));
    } else if (place_ == Place::metadata) {
      if (!metadata_keys_.insert(key).second) refuse("metadata {} stand twice", in_quotes(key));
    } else {
      bool& seen = key == "dtype"          ? has_dtype_
                   : key == "shape"        ? has_shape_
                   : key == "data_offsets" ? has_offsets_
                                           : unexpected(fmt::format("the key {}", in_quotes(key)));
      if (std::exchange(seen, true)) refuse("tensor {}: {} stands twice", in_quotes(name_), key);
      field_ = std::move(key);
    }
    return true;
  }

  bool start_array(size_t) override {
    if (place_ != Place::tensor || field_ == "dtype") unexpected("a list");
    place_ = field_ == "shape" ? Place::shape : Place::offsets;
    return true;
  }

  bool end_array() override {
    if (place_ == Place::offsets && offsets_ != 2) {
      refuse("tensor {}: data_offsets has {} entries, not 2", in_quotes(name_), offsets_);
    }
    place_ = Place::tensor;
    return true;
  }

  bool string(std::string& text) override {
    if (place_ == Place::metadata) return true;
    if (place_ != Place::tensor || field_ != "dtype") unexpected("a string");
    const auto* type =
        std::ranges::find(kTypes, text, [](const auto& known) { return known.first; });
    if (type == std::end(kTypes)) {
      refuse("tensor {}: dtype {} is not known", in_quotes(name_), in_quotes(text));
    }
    entry_.tensor.dtype = type->first;
    element_bits_ = type->second;
    return true;
  }

  bool number_unsigned(uint64_t number) override {
    if (place_ == Place::shape) {
      entry_.tensor.shape.push_back(number);
    } else if (place_ == Place::offsets && offsets_ < 2) {
      (offsets_ == 0 ? entry_.begin : entry_.end) = number;
      ++offsets_;
    } else {
      unexpected("a number");
    }
    return true;
  }

  bool null() override { unexpected("null"); }
  bool boolean(bool) override { unexpected("a boolean"); }
  bool number_integer(int64_t) override { unexpected("a negative number"); }
  bool number_float(double, const std::string&) override { unexpected("a fraction"); }
  bool binary(nlohmann::json::binary_t&) override { unexpected("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) override {
    refuse("the header is no JSON at byte {} of the file", kLengthBytes + position);
  }

 private:
  [[noreturn]] bool& unexpected(std::string_view what) const {
    if (place_ == Place::outside) refuse("the header is {}, not an object", what);
    refuse("{} of the header holds {} where none may be", in_quotes(name_), what);
  }

  void finish_tensor() {
    const std::string name = in_quotes(name_);
    if (!has_dtype_ || !has_shape_ || !has_offsets_) {
      refuse("tensor {}: {} is missing", name,
             !has_dtype_   ? "dtype"
             : !has_shape_ ? "shape"
                           : "data_offsets");
    }
    uint64_t elements = 1;  // of the dimensions that are not 0, so that what rows have fits as well
    bool empty = false;
    for (const uint64_t dimension : entry_.tensor.shape) {
      if (dimension > kMaxElements / elements) {
        refuse("tensor {}: a dimension of {} makes 2^63 elements or more", name, dimension);
      }
      elements *= std::max<uint64_t>(dimension, 1);
      empty = empty || dimension == 0;
    }
    const uint64_t element_bytes = element_bits_ / 8;
    if (elements > kMaxElements / element_bytes) {
      refuse("tensor {}: {} elements of {} make 2^63 bytes or more", name, elements,
             entry_.tensor.dtype);
    }
    const uint64_t bytes = empty ? 0 : elements * element_bytes;
    if (entry_.begin > entry_.end || entry_.end - entry_.begin != bytes) {
      refuse("tensor {}: its data are at {} to {}, but dtype and shape make {} bytes", name,
             entry_.begin, entry_.end, bytes);
    }
    entry_.tensor.name = name_;
    entries.push_back(std::move(entry_));
    has_dtype_ = has_shape_ = has_offsets_ = false;
    offsets_ = 0;
  }

  std::string path_;
  ModelFile& keeper_;
  Place place_ = Place::outside;
  std::set<std::string_view> names_;
  std::set<std::string> metadata_keys_;
  std::string_view name_;  // the member of the header
  std::string field_;      // the member of a tensor
  Entry entry_;            // the tensor so far
  uint64_t element_bits_ = 0;
  int offsets_ = 0;  // of the tensor, so far
  bool has_dtype_ = false, has_shape_ = false, has_offsets_ = false;
};

}  // namespace

std::vector<SafeTensor> read_safetensors(const std::filesystem::path& path, ModelFile& keeper) {
  const auto file = keeper.keep(MappedFile(path));
  HeaderReader reader(path.string(), keeper);
  uint64_t length = 0;
  if (file.size() < kLengthBytes) {
    reader.refuse("it has {} bytes, too few for a safetensors file", file.size());
  }
  std::memcpy(&length, file.data(), kLengthBytes);
  if (length > kMaxHeaderBytes) {
    reader.refuse("its header has {} bytes, {} are allowed: is it a safetensors file?", length,
                  kMaxHeaderBytes);
  }
  if (length > file.size() - kLengthBytes) {
    reader.refuse("its header has {} bytes, but {} follow: is the file complete?", length,
                  file.size() - kLengthBytes);
  }
  const auto header = file.subspan(kLengthBytes, length);
  const auto* text = reinterpret_cast<const char*>(header.data());
  nlohmann::json::sax_parse(text, text + header.size(), &reader);

  std::vector<Entry>& entries = reader.entries;
  std::ranges::sort(entries, [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end, a.tensor.name) < std::tie(b.begin, b.end, b.tensor.name);
  });
  const auto data = file.subspan(kLengthBytes + length);
  std::vector<SafeTensor> tensors;
  tensors.reserve(entries.size());
  uint64_t end = 0;
  for (Entry& entry : entries) {
    if (entry.begin != end) {
      reader.refuse("tensor {}: its data begin at {}, those before end at {}: a gap or an overlap",
                    in_quotes(entry.tensor.name), entry.begin, end);
    }
    if (entry.end > data.size()) {
      reader.refuse("tensor {}: its data end at {} of {} bytes: is the file complete?",
                    in_quotes(entry.tensor.name), entry.end, data.size());
    }
    end = entry.end;
    entry.tensor.data = data.subspan(entry.begin, entry.end - entry.begin);
    tensors.push_back(std::move(entry.tensor));
  }
  if (end != data.size()) {
    reader.refuse("{} bytes follow the data of the last tensor", data.size() - end);
  }
  return tensors;
}

}  // namespace ms
