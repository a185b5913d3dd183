// gguf_flaws_test.cpp: one test for each class of flaw found in GGUF readers, and damage of any
// kind.
//
// Every flaw has its success twin: the same bytes before the change.
#include <gtest/gtest.h>

#include <cstring>
#include <initializer_list>
#include <random>

#include "base/error.hpp"
#include "base/test_files.hpp"
#include "formats/gguf.hpp"
#include "formats/gguf_builder.hpp"

namespace ms {
namespace {

constexpr uint64_t kTensorCountAt = 8;
constexpr uint64_t kMetadataCountAt = 16;
constexpr uint64_t kMaxU64 = UINT64_MAX;

// Decodes what can be decoded and reads every byte of the rest, so that a sanitizer sees it all.
void read_everything(const ModelFile& file) {
  for (const TensorInfo& tensor : file.tensors()) {
    const TypeInfo& type = info(tensor.type);
    ASSERT_EQ(tensor.data.size(), tensor.elements() / type.block_size * type.block_bytes);
    if (can_decode(tensor.type)) {
      std::vector<float> values(tensor.elements());
      decode(tensor.type, tensor.data, values);
    } else {
      const std::vector<std::byte> copy(tensor.data.begin(), tensor.data.end());
    }
  }
}

void expect_opens(const std::string& bytes) {
  const TemporaryFile file(bytes);
  EXPECT_NO_THROW(read_everything(read_gguf(file.path())));
}

// What the Error says that the bytes are refused with, after the name of the file; or "none".
std::string refusal(const std::string& bytes) {
  const TemporaryFile file(bytes);
  try {
    read_gguf(file.path());
  } catch (const Error& error) {
    const std::string beginning = "cannot read " + file.path().string() + ": ";
    EXPECT_TRUE(std::string_view(error.what()).starts_with(beginning)) << error.what();
    return std::string(error.what()).substr(beginning.size());
  }
  return "none";
}

template <class T>
std::string patched(std::string bytes, uint64_t at, T value) {
  EXPECT_LE(at + sizeof value, bytes.size());
  std::memcpy(bytes.data() + at, &value, sizeof value);
  return bytes;
}

// Where a name begins and ends in the bytes; it occurs once.
uint64_t start_of(const std::string& bytes, std::string_view name) {
  EXPECT_EQ(bytes.find(name), bytes.rfind(name)) << name;
  return bytes.find(name);
}
uint64_t end_of(const std::string& bytes, std::string_view name) {
  return start_of(bytes, name) + name.size();
}

// One entry "count" and one tensor "weight" f32 [2, 5], whose fields lie at known places.
std::string plain_file() {
  return GgufBuilder()
      .set("count", 7u)
      .tensor("weight", TensorType::f32, {2, 5}, gguf_ramp(10))
      .bytes();
}
uint64_t dimensions_at() { return end_of(plain_file(), "weight"); }
uint64_t type_at() { return dimensions_at() + 4 + 2 * 8; }
uint64_t offset_at() { return type_at() + 4; }

TEST(GgufFlaws, a_wrong_magic_is_refused) {
  const std::string bytes = plain_file();
  expect_opens(bytes);
  EXPECT_EQ(refusal("FUGG" + bytes.substr(4)),
            "header: magic at byte 0 is \"FUGG\", not \"GGUF\": not a GGUF file");
}

TEST(GgufFlaws, an_empty_file_is_refused) {
  EXPECT_EQ(refusal(""),
            "header: magic at byte 0 needs 4 bytes, but 0 follow: is the file complete?");
}

TEST(GgufFlaws, versions_but_2_and_3_are_refused) {
  const std::string bytes = plain_file();
  expect_opens(bytes);
  EXPECT_EQ(refusal(patched(bytes, 4, 0u)),
            "header: version at byte 4 is 0; 2 and 3 are read: convert the model again");
  EXPECT_EQ(refusal(patched(bytes, 4, 1u)),
            "header: version at byte 4 is 1; 2 and 3 are read: convert the model again");
  EXPECT_EQ(refusal(patched(bytes, 4, 4u)),
            "header: version at byte 4 is 4; 2 and 3 are read: a newer program is needed");
}

TEST(GgufFlaws, a_big_endian_file_is_called_that) {
  EXPECT_EQ(refusal(patched(plain_file(), 4, 0x03000000u)),
            "header: version at byte 4 is 0x03000000, with its bytes swapped: convert this "
            "big-endian file");
}

TEST(GgufFlaws, a_count_that_wraps_is_refused) {
  const std::string bytes = plain_file();
  expect_opens(bytes);
  // The last: times the size of an entry it wraps to a small number.
  for (uint64_t count : {kMaxU64, kMaxU64 >> 1, uint64_t{1} << 61, uint64_t{1} << 32}) {
    EXPECT_TRUE(refusal(patched(bytes, kTensorCountAt, count)).starts_with("header: tensor count"));
    EXPECT_TRUE(
        refusal(patched(bytes, kMetadataCountAt, count)).starts_with("header: metadata count"));
  }
  EXPECT_EQ(
      refusal(patched(bytes, kMetadataCountAt, kMaxU64)),
      fmt::format("header: metadata count at byte 16 is 18446744073709551615, but the rest of "
                  "the file has room for {}: is the file complete?",
                  (bytes.size() - 24) / 14));
}

TEST(GgufFlaws, a_count_beyond_the_entries_is_refused) {
  const std::string bytes = plain_file();
  EXPECT_NE(refusal(patched(bytes, kTensorCountAt, uint64_t{2})), "none");
  EXPECT_NE(refusal(patched(bytes, kMetadataCountAt, uint64_t{2})), "none");
}

TEST(GgufFlaws, a_key_longer_than_the_file_or_the_limit_is_refused) {
  const std::string bytes = plain_file();
  const uint64_t at = start_of(bytes, "count") - 8;
  for (uint64_t length : {kMaxU64, uint64_t{65536}}) {
    EXPECT_EQ(refusal(patched(bytes, at, length)),
              fmt::format("metadata entry 0: key at byte 24 is {} bytes long; 65535 are allowed",
                          length));
  }
  EXPECT_EQ(refusal(patched(bytes, at, uint64_t{65535})),
            fmt::format("metadata entry 0: key at byte 32 needs 65535 bytes, but {} follow: is the "
                        "file complete?",
                        bytes.size() - 32));
  expect_opens(GgufBuilder().set(std::string(65535, 'k'), 1u).bytes());
}

TEST(GgufFlaws, an_empty_key_is_refused) {
  EXPECT_EQ(refusal(GgufBuilder().set("", 1u).bytes()),
            "metadata entry 0: key at byte 24 is empty");
  expect_opens(GgufBuilder().set("k", 1u).bytes());
}

TEST(GgufFlaws, a_duplicate_key_is_refused) {
  expect_opens(GgufBuilder().set("k", 1u).set("l", 1u).bytes());
  EXPECT_EQ(refusal(GgufBuilder().set("k", 1u).set("k", 1u).bytes()),
            "metadata entry 1: key at byte 41 is \"k\" a second time");
}

TEST(GgufFlaws, an_unknown_value_type_is_refused) {
  const std::string bytes = plain_file();
  const uint64_t at = end_of(bytes, "count");
  for (uint32_t id : {13u, 0xffffffffu}) {
    EXPECT_EQ(refusal(patched(bytes, at, id)),
              fmt::format("metadata \"count\": value type at byte 37 is {}, which is unknown", id));
  }
}

TEST(GgufFlaws, a_value_longer_than_the_file_is_refused) {
  const std::string bytes = GgufBuilder().set("key", "text").bytes();
  expect_opens(bytes);
  EXPECT_EQ(refusal(patched(bytes, end_of(bytes, "key") + 4, kMaxU64)),
            "metadata \"key\": value at byte 47 needs 18446744073709551615 bytes, but 4 follow: is "
            "the file complete?");
  EXPECT_EQ(
      refusal(patched(bytes, end_of(bytes, "key") + 4, uint64_t{5})),
      "metadata \"key\": value at byte 47 needs 5 bytes, but 4 follow: is the file complete?");
}

TEST(GgufFlaws, a_bool_that_is_neither_0_nor_1_is_refused) {
  for (const std::string& bytes : {GgufBuilder().set("key", true).bytes(),
                                   GgufBuilder().set("key", std::vector<bool>{true}).bytes()}) {
    expect_opens(bytes);
    EXPECT_TRUE(
        refusal(patched(bytes, bytes.size() - 1, uint8_t{2})).ends_with("is 2; a bool is 0 or 1"));
  }
}

TEST(GgufFlaws, an_array_longer_than_the_file_is_refused_before_it_is_allocated) {
  const auto refuse_counts = [](const std::string& bytes, uint64_t room) {
    expect_opens(bytes);
    const uint64_t at = end_of(bytes, "key") + 8;
    // 2^61 and 2^62: times the size of an element they wrap to 0.
    for (uint64_t count : {kMaxU64, uint64_t{1} << 62, uint64_t{1} << 61, room + 1}) {
      EXPECT_EQ(refusal(patched(bytes, at, count)),
                fmt::format("metadata \"key\": element count at byte 43 is {}, but the rest of the "
                            "file has room for {}: is the file complete?",
                            count, room));
    }
  };
  refuse_counts(GgufBuilder().set("key", std::vector<uint8_t>(5)).bytes(), 5);
  refuse_counts(GgufBuilder().set("key", std::vector<bool>(5)).bytes(), 5);
  refuse_counts(GgufBuilder().set("key", std::vector<float>(5)).bytes(), 5);
  refuse_counts(GgufBuilder().set("key", std::vector<double>(5)).bytes(), 5);
  refuse_counts(GgufBuilder().set("key", std::vector<std::string_view>(5)).bytes(), 5);
}

TEST(GgufFlaws, an_array_beyond_the_limit_is_refused_even_if_the_file_is_as_long) {
  const uint64_t count = (uint64_t{1} << 30) + 1;
  std::string bytes = GgufBuilder().set("key", std::vector<uint8_t>{}).bytes();
  bytes = patched(bytes, end_of(bytes, "key") + 8, count);
  const TemporaryFile sparse(bytes);
  std::filesystem::resize_file(sparse.path(), bytes.size() + count);
  try {
    read_gguf(sparse.path());
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_TRUE(std::string_view(error.what())
                    .ends_with("element count at byte 43 is 1073741825; 1073741824 are allowed"))
        << error.what();
  }
}

TEST(GgufFlaws, a_string_of_an_array_longer_than_the_file_is_refused) {
  const std::string bytes =
      GgufBuilder().set("key", std::vector<std::string_view>{"first", "second"}).bytes();
  expect_opens(bytes);
  EXPECT_EQ(
      refusal(patched(bytes, start_of(bytes, "second") - 8, uint64_t{7})),
      "metadata \"key\": element at byte 72 needs 7 bytes, but 6 follow: is the file complete?");
}

TEST(GgufFlaws, a_nested_array_is_refused) {
  const std::string bytes = GgufBuilder().set("key", std::vector<uint32_t>{0, 0, 0}).bytes();
  expect_opens(bytes);
  EXPECT_EQ(refusal(patched(bytes, end_of(bytes, "key") + 4, 9u)),
            "metadata \"key\": element type at byte 39 is an array; nested arrays are not read");
  EXPECT_EQ(refusal(patched(bytes, end_of(bytes, "key") + 4, 13u)),
            "metadata \"key\": element type at byte 39 is 13, which is unknown");
}

TEST(GgufFlaws, an_alignment_that_is_not_a_power_of_two_is_refused) {
  const std::string bytes =
      GgufBuilder().alignment(32).tensor("t", TensorType::f32, {1}, gguf_ramp(1)).bytes();
  expect_opens(bytes);
  for (uint32_t alignment : {0u, 3u, 13u, 33u, 0xffffffffu}) {
    EXPECT_EQ(
        refusal(patched(bytes, end_of(bytes, "general.alignment") + 4, alignment)),
        fmt::format("metadata \"general.alignment\": value at byte 53 is {}, not a power of two",
                    alignment));
  }
}

TEST(GgufFlaws, a_huge_alignment_is_refused) {
  const std::string bytes =
      GgufBuilder().alignment(32).tensor("t", TensorType::f32, {1}, gguf_ramp(1)).bytes();
  EXPECT_EQ(
      refusal(patched(bytes, end_of(bytes, "general.alignment") + 4, 0x80000000u)),
      "tensor data: start at byte 2147483648 (alignment 2147483648) is beyond the 100 bytes of "
      "the file: is it complete?");
}

TEST(GgufFlaws, an_alignment_of_another_type_is_refused) {
  EXPECT_EQ(refusal(GgufBuilder().set("general.alignment", int32_t{32}).bytes()),
            "metadata \"general.alignment\": value type at byte 49 is i32, not u32");
  EXPECT_EQ(refusal(GgufBuilder().set("general.alignment", std::vector<uint32_t>{32}).bytes()),
            "metadata \"general.alignment\": value type at byte 49 is an array of u32, not u32");
  expect_opens(GgufBuilder().set("general.alignment", 32u).bytes());
}

TEST(GgufFlaws, a_tensor_name_longer_than_the_file_or_the_limit_is_refused) {
  const std::string bytes = plain_file();
  const uint64_t at = start_of(bytes, "weight") - 8;
  EXPECT_EQ(refusal(patched(bytes, at, kMaxU64)),
            "tensor info 0: name at byte 45 is 18446744073709551615 bytes long; 64 are allowed");
  const auto named = [](size_t length) {
    return GgufBuilder()
        .tensor(std::string(length, 'n'), TensorType::f32, {1}, gguf_ramp(1))
        .bytes();
  };
  EXPECT_EQ(refusal(named(65)), "tensor info 0: name at byte 24 is 65 bytes long; 64 are allowed");
  expect_opens(named(64));
}

TEST(GgufFlaws, a_duplicate_tensor_name_is_refused) {
  const auto named = [](std::string_view first, std::string_view second) {
    return GgufBuilder()
        .tensor(first, TensorType::f32, {1}, gguf_ramp(1))
        .tensor(second, TensorType::f32, {1}, gguf_ramp(1))
        .bytes();
  };
  expect_opens(named("a", "b"));
  EXPECT_EQ(refusal(named("a", "a")), "tensor info 1: name at byte 57 is \"a\" a second time");
}

TEST(GgufFlaws, more_than_four_dimensions_are_refused) {
  const auto shaped = [](const std::vector<uint64_t>& shape) {
    return GgufBuilder().tensor("weight", TensorType::f32, shape, gguf_ramp(1)).bytes();
  };
  expect_opens(shaped({1, 1, 1, 1}));
  EXPECT_EQ(refusal(shaped({1, 1, 1, 1, 1})),
            "tensor \"weight\": dimension count at byte 38 is 5; 4 are allowed");
  EXPECT_EQ(refusal(patched(plain_file(), dimensions_at(), 0xffffffffu)),
            "tensor \"weight\": dimension count at byte 59 is 4294967295; 4 are allowed");
}

TEST(GgufFlaws, a_negative_or_overflowing_dimension_is_refused) {
  const std::string bytes = plain_file();
  expect_opens(bytes);
  const uint64_t first = dimensions_at() + 4;
  EXPECT_EQ(refusal(patched(bytes, first, kMaxU64)),
            "tensor \"weight\": dimension at byte 63 is 18446744073709551615, which makes 2^63 "
            "elements or more");
  EXPECT_EQ(
      refusal(patched(patched(bytes, first, uint64_t{1} << 32), first + 8, uint64_t{1} << 31)),
      "tensor \"weight\": dimension at byte 71 is 2147483648, which makes 2^63 elements or "
      "more");
  // Products that wrap to 0 and to the right number of bytes.
  EXPECT_NE(
      refusal(patched(patched(bytes, first, uint64_t{1} << 32), first + 8, uint64_t{1} << 32)),
      "none");
  EXPECT_NE(
      refusal(patched(patched(bytes, first, (uint64_t{1} << 63) + 5), first + 8, uint64_t{2})),
      "none");
}

TEST(GgufFlaws, a_zero_dimension_makes_an_empty_tensor) {
  for (const std::vector<uint64_t>& shape :
       std::initializer_list<std::vector<uint64_t>>{{0}, {0, 32}, {4, 0}, {0, 0, 0, 0}}) {
    const TemporaryFile bytes(
        GgufBuilder()
            .tensor("empty", TensorType::q8_0, shape, std::span<const float>{})
            .tensor("full", TensorType::q8_0, {32}, gguf_ramp(32))
            .bytes());
    const ModelFile file = read_gguf(bytes.path());
    EXPECT_EQ(file.find_tensor("empty")->elements(), 0u);
    EXPECT_EQ(file.find_tensor("empty")->shape, shape);
    EXPECT_TRUE(file.find_tensor("empty")->data.empty());
    EXPECT_EQ(file.find_tensor("full")->data.size(), 34u);
  }
}

TEST(GgufFlaws, a_zero_dimension_does_not_hide_an_overflow) {
  std::string bytes =
      GgufBuilder().tensor("weight", TensorType::f32, {1, 1, 0}, std::span<const float>{}).bytes();
  expect_opens(bytes);
  const uint64_t first = end_of(bytes, "weight") + 4;
  bytes = patched(patched(bytes, first + 8, uint64_t{1} << 62), first + 16, uint64_t{1} << 62);
  EXPECT_TRUE(refusal(bytes).ends_with("which makes 2^63 elements or more"));
}

TEST(GgufFlaws, more_bytes_than_a_number_holds_are_refused) {
  std::string bytes = patched(plain_file(), type_at(), static_cast<uint32_t>(TensorType::i64));
  bytes = patched(bytes, dimensions_at() + 4, uint64_t{1} << 61);
  bytes = patched(bytes, dimensions_at() + 12, uint64_t{2});
  EXPECT_EQ(
      refusal(bytes),
      "tensor \"weight\": type at byte 79 is i64, of which 4611686018427387904 elements exceed "
      "2^64 bytes");
}

TEST(GgufFlaws, an_unknown_tensor_type_is_refused_by_its_id) {
  const std::string bytes = plain_file();
  expect_opens(bytes);
  for (uint32_t id : {4u, 31u, 43u, 1000u, 0xffffffffu}) {
    EXPECT_EQ(
        refusal(patched(bytes, type_at(), id)),
        fmt::format("tensor \"weight\": type at byte 79 is {}, which is unknown or was withdrawn",
                    id));
  }
}

TEST(GgufFlaws, a_row_that_is_no_multiple_of_the_block_is_refused) {
  EXPECT_EQ(
      refusal(patched(plain_file(), type_at(), static_cast<uint32_t>(TensorType::q4_k))),
      "tensor \"weight\": type at byte 79 is q4_k, whose blocks of 256 do not divide rows of 5");
  expect_opens(GgufBuilder().tensor("w", TensorType::q4_k, {1, 256}, gguf_ramp(256)).bytes());
}

TEST(GgufFlaws, what_the_file_says_is_escaped_and_cut_in_messages) {
  const std::string bytes = GgufBuilder().set("evil\x1b[2J\n" + std::string(200, 'k'), 1u).bytes();
  for (const std::string& message :
       {refusal(patched(bytes, bytes.size() - 8, 99u)), refusal("\x1b[2J" + bytes.substr(4))}) {
    EXPECT_NE(message.find("[2J"), std::string::npos) << message;
    EXPECT_EQ(message.find('\x1b'), std::string::npos) << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    EXPECT_LT(message.size(), 200u) << message;
  }
}

TEST(GgufFlaws, data_beyond_the_end_of_the_file_is_refused) {
  const std::string bytes = plain_file();
  expect_opens(bytes);
  const std::string expected =
      "tensor \"weight\": data offset at byte 83 is {}: the tensor's {} bytes end beyond the "
      "file's {} "
      "bytes of data: is the file complete?";
  EXPECT_EQ(refusal(bytes.substr(0, bytes.size() - 1)),
            fmt::format(fmt::runtime(expected), 0, 40, 39));
  EXPECT_EQ(refusal(patched(bytes, dimensions_at() + 4, uint64_t{6})),
            fmt::format(fmt::runtime(expected), 0, 48, 40));
  // An offset that with the size of the data wraps to within the file.
  for (uint64_t offset : {uint64_t{32}, uint64_t{64}, kMaxU64 - 31}) {
    EXPECT_EQ(refusal(patched(bytes, offset_at(), offset)),
              fmt::format(fmt::runtime(expected), offset, 40, 40));
  }
}

TEST(GgufFlaws, a_data_section_that_is_missing_is_refused) {
  const std::string bytes = plain_file();
  const uint64_t end_of_infos = offset_at() + 8;
  EXPECT_EQ(
      refusal(bytes.substr(0, end_of_infos)),
      "tensor data: start at byte 96 (alignment 32) is beyond the 91 bytes of the file: is it "
      "complete?");
}

TEST(GgufFlaws, an_offset_off_the_alignment_is_refused) {
  const auto aligned = [](uint32_t alignment) {
    return GgufBuilder()
        .alignment(alignment)
        .tensor("first", TensorType::f32, {1}, gguf_ramp(1))
        .tensor("second", TensorType::f32, {32}, gguf_ramp(32))
        .bytes();
  };
  expect_opens(aligned(4));
  const std::string bytes = aligned(4);
  EXPECT_TRUE(refusal(patched(bytes, end_of(bytes, "general.alignment") + 4, 8u))
                  .ends_with("is 4, not a multiple of the alignment 8"));
  EXPECT_TRUE(refusal(patched(bytes, end_of(bytes, "second") + 16, uint64_t{5}))
                  .ends_with("is 5, not a multiple of the alignment 4"));
}

TEST(GgufFlaws, tensor_sizes_whose_sum_wraps_are_refused) {
  std::string bytes = GgufBuilder()
                          .tensor("first", TensorType::i8, {64}, std::vector<std::byte>(64))
                          .tensor("second", TensorType::i8, {64}, std::vector<std::byte>(64))
                          .bytes();
  expect_opens(bytes);
  for (std::string_view name : {"first", "second"}) {
    bytes = patched(bytes, end_of(bytes, name) + 4, uint64_t{0x7fffffffffffffc0});
  }
  EXPECT_NE(refusal(bytes), "none");
}

TEST(GgufFlaws, tensors_in_any_order_with_gaps_are_read_but_overlaps_are_refused) {
  const std::string bytes = GgufBuilder()
                                .tensor("first", TensorType::f32, {16}, gguf_ramp(16))
                                .tensor("second", TensorType::f32, {1}, gguf_ramp(1))
                                .tensor("third", TensorType::f32, {1}, gguf_ramp(1))
                                .bytes();
  const uint64_t first = end_of(bytes, "first") + 16, second = end_of(bytes, "second") + 16;
  const uint64_t third = end_of(bytes, "third") + 16;
  expect_opens(bytes);
  expect_opens(patched(patched(bytes, second, uint64_t{96}), third, uint64_t{64}));
  EXPECT_EQ(refusal(patched(bytes, second, uint64_t{32})),
            fmt::format("tensor data: data offset at byte {} is 32, inside another tensor's data",
                        second));
  EXPECT_NE(refusal(patched(bytes, third, uint64_t{64})), "none");
  EXPECT_NE(refusal(patched(bytes, first, uint64_t{32})), "none");
}

TEST(GgufFlaws, every_truncation_is_refused) {
  const std::string bytes = small_gguf();
  expect_opens(bytes);
  for (size_t size = 0; size < bytes.size(); ++size) {
    ASSERT_NE(refusal(bytes.substr(0, size)), "none") << size << " of " << bytes.size();
  }
}

// Opens damaged bytes: an Error, or a file that can be read to the end.
void expect_no_harm(TemporaryFile& file, const std::string& bytes) {
  file.write(bytes);
  try {
    read_everything(read_gguf(file.path()));
  } catch (const Error&) {
  }
}

TEST(GgufFlaws, no_damaged_byte_does_harm) {
  const std::string bytes = small_gguf();
  TemporaryFile file;
  for (size_t at = 0; at < bytes.size(); ++at) {
    for (uint8_t change : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      expect_no_harm(file, patched(bytes, at, static_cast<uint8_t>(bytes[at] ^ change)));
    }
    expect_no_harm(file, patched(bytes, at, uint8_t{0}));
  }
}

TEST(GgufFlaws, no_damaged_word_does_harm) {
  std::mt19937_64 random(3);
  const std::string bytes = small_gguf();
  TemporaryFile file;
  const uint64_t words[] = {0,      1, 1u << 31, uint64_t{1} << 32, uint64_t{1} << 62, kMaxU64 >> 1,
                            kMaxU64};
  for (int round = 0; round < 5000; ++round) {
    std::string damaged = bytes;
    for (uint64_t changes = 1 + random() % 3; changes > 0; --changes) {
      damaged = patched(damaged, random() % (bytes.size() - 8), words[random() % std::size(words)]);
    }
    expect_no_harm(file, damaged);
  }
}

}  // namespace
}  // namespace ms
