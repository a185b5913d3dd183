// safetensors_test.cpp: what valid files give back, each class of flaw found in loaders, and damage
// of any kind.
#include "formats/safetensors.hpp"

#include <gtest/gtest.h>

#include <chrono>

#include "base/error.hpp"
#include "base/test_errors.hpp"
#include "formats/safetensors_builder.hpp"

namespace ms {
namespace {

// Reads every byte of the data, so that a sanitizer sees it all. The number of tensors.
size_t read(const std::string& bytes) {
  const TemporaryFile file(bytes);
  ModelFile keeper(file.path(), "");
  const auto tensors = read_safetensors(file.path(), keeper);
  for (const SafeTensor& tensor : tensors)
    const std::vector<std::byte> copy(tensor.data.begin(), tensor.data.end());
  EXPECT_TRUE(keeper.tensors().empty());
  return tensors.size();
}

std::string refusal(const std::string& bytes) {
  return message_of<Error>([&] { read(bytes); });
}

// A header of one tensor "a" with these members, and its data.
std::string refusal_of(std::string_view members, size_t data_bytes) {
  return refusal(
      safetensors_bytes(fmt::format(R"({{"a":{{{}}}}})", members), std::string(data_bytes, 'x')));
}

const std::string kGood = R"("dtype":"F32","shape":[2,3],"data_offsets":[0,24])";

std::string small() {
  return SafetensorsBuilder()
      .metadata("format", "pt")
      .tensor("vector", {3}, {1, 2, 3})
      .tensor("empty", {0, 5}, {})
      .tensor("half", "BF16", {2, 1}, std::as_bytes(std::span("\x80\x3f\x00\xc0", 4)))
      .tensor("scalar", {}, {7})
      .bytes();
}

TEST(Safetensors, gives_back_tensors_in_the_order_of_their_data) {
  const TemporaryFile file(small());
  ModelFile keeper(file.path(), "");
  const auto tensors = read_safetensors(file.path(), keeper);
  ASSERT_EQ(tensors.size(), 4u);
  EXPECT_EQ(tensors[0].name, "vector");
  EXPECT_EQ(tensors[0].dtype, "F32");
  EXPECT_EQ(tensors[0].shape, std::vector<uint64_t>{3});
  const float values[] = {1, 2, 3};
  EXPECT_EQ(std::memcmp(tensors[0].data.data(), values, sizeof values), 0);
  EXPECT_EQ(tensors[1].shape, (std::vector<uint64_t>{0, 5}));
  EXPECT_TRUE(tensors[1].data.empty());
  EXPECT_EQ(tensors[2].dtype, "BF16");
  EXPECT_EQ(tensors[2].data.size(), 4u);
  EXPECT_TRUE(tensors[3].shape.empty());
  EXPECT_EQ(tensors[3].data.size(), 4u);
}

TEST(Safetensors, the_header_may_be_in_any_order_and_padded) {
  EXPECT_EQ(read(safetensors_bytes(R"({"b":{"data_offsets":[4,8],"shape":[1],"dtype":"F32"},)"
                                   R"("a":{"shape":[2],"dtype":"F16","data_offsets":[0,4]}}   )",
                                   "12345678")),
            2u);
  EXPECT_EQ(read(safetensors_bytes("{}")), 0u);
}

TEST(Safetensors, a_file_that_is_too_short_is_refused) {
  EXPECT_SAYS(refusal(""), "it has 0 bytes, too few");
  EXPECT_SAYS(refusal("1234567"), "it has 7 bytes, too few");
  const std::string good = small();
  for (size_t size = 0; size < good.size(); ++size)
    EXPECT_THROW(read(good.substr(0, size)), Error) << size;
}

TEST(Safetensors, a_header_longer_than_the_file_or_100_MB_is_refused) {
  const auto with_length = [](uint64_t length) {
    std::string bytes = safetensors_bytes("{}");
    std::memcpy(bytes.data(), &length, sizeof length);
    return refusal(bytes);
  };
  EXPECT_SAYS(with_length(3), "its header has 3 bytes, but 2 follow");
  EXPECT_SAYS(with_length(100'000'000), "but 2 follow");
  EXPECT_SAYS(with_length(100'000'001), "100000000 are allowed");
  for (const uint64_t length : {UINT64_MAX, UINT64_MAX - 7, uint64_t{1} << 63})
    EXPECT_SAYS(with_length(length), "are allowed");
}

TEST(Safetensors, a_header_that_is_no_object_is_refused) {
  for (const char* header : {"", " ", "{", "nonsense", "{}{}", "{} x", "\xff", "{\"a\":}", "\0{}"})
    EXPECT_SAYS(refusal(safetensors_bytes(header)), "no JSON at byte");
  for (const char* header : {"3", "-3", "0.5", "null", "true", "\"text\"", "[]", "[{}]"})
    EXPECT_SAYS(refusal(safetensors_bytes(header)), "not an object");
}

TEST(Safetensors, deep_nesting_is_refused_at_its_second_level) {
  const std::string open(1 << 20, '[');
  EXPECT_SAYS(refusal(safetensors_bytes("{\"a\":" + open)), "\"a\" of the header holds a list");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_SAYS(refusal(safetensors_bytes(objects)), "\"a\" of the header holds the key \"a\"");
  EXPECT_SAYS(refusal(safetensors_bytes(R"({"__metadata__":{"a":{}}})")), "holds an object");
}

TEST(Safetensors, names_and_keys_that_stand_twice_are_refused) {
  const std::string empty = R"({"dtype":"F32","shape":[0],"data_offsets":[0,0]})";
  EXPECT_EQ(read(safetensors_bytes(fmt::format(R"({{"a":{},"b":{}}})", empty, empty))), 2u);
  EXPECT_SAYS(refusal(safetensors_bytes(fmt::format(R"({{"a":{},"a":{}}})", empty, empty))),
              "tensor \"a\" stands twice");
  EXPECT_SAYS(refusal_of(kGood + R"(,"dtype":"F32")", 24), "dtype stands twice");
  EXPECT_SAYS(refusal_of(kGood + R"(,"shape":[6])", 24), "shape stands twice");
  EXPECT_SAYS(refusal_of(kGood + R"(,"data_offsets":[0,24])", 24), "data_offsets stands twice");
  EXPECT_SAYS(refusal(safetensors_bytes(R"({"__metadata__":{"k":"","k":""}})")),
              "metadata \"k\" stand twice");
  EXPECT_SAYS(refusal(safetensors_bytes(R"({"__metadata__":{},"__metadata__":{}})")),
              "stands twice");
}

TEST(Safetensors, what_a_tensor_lacks_or_has_too_much_is_refused) {
  EXPECT_SAYS(refusal_of("", 0), "tensor \"a\": dtype is missing");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32")", 0), "shape is missing");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[0])", 0), "data_offsets is missing");
  EXPECT_SAYS(refusal_of(kGood + R"(,"more":1)", 24), "the key \"more\"");
  EXPECT_SAYS(refusal_of(R"("dtype":"Q4","shape":[],"data_offsets":[0,4])", 4),
              "dtype \"Q4\" is not known");
  EXPECT_SAYS(refusal_of(R"("dtype":7,"shape":[],"data_offsets":[0,4])", 4), "holds a number");
  EXPECT_SAYS(refusal_of(R"("dtype":["F32"],"shape":[],"data_offsets":[0,4])", 4), "a list");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":1,"data_offsets":[0,4])", 4), "a number");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[[1]],"data_offsets":[0,4])", 4), "a list");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[],"data_offsets":[0])", 4), "1 entries, not 2");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[],"data_offsets":[0,4,8])", 4), "a number");
  EXPECT_SAYS(refusal(safetensors_bytes(R"({"__metadata__":{"k":1}})")), "holds a number");
  EXPECT_SAYS(refusal(safetensors_bytes(R"({"a":7})")), "\"a\" of the header holds a number");
}

TEST(Safetensors, numbers_that_are_no_sizes_are_refused) {
  for (const auto& [number, what] :
       {std::pair("-1", "a negative number"), std::pair("1.5", "a fraction"),
        std::pair("1e3", "a fraction"), std::pair("18446744073709551616", "a fraction"),
        std::pair("null", "null"), std::pair("true", "a boolean"),
        std::pair("\"1\"", "a string")}) {
    EXPECT_SAYS(
        refusal_of(fmt::format(R"("dtype":"F32","shape":[{}],"data_offsets":[0,4])", number), 4),
        what);
    EXPECT_SAYS(
        refusal_of(fmt::format(R"("dtype":"F32","shape":[1],"data_offsets":[0,{}])", number), 4),
        what);
  }
}

TEST(Safetensors, sizes_that_wrap_around_are_refused) {
  const auto with_shape = [](std::string_view shape) {
    return refusal_of(fmt::format(R"("dtype":"F32","shape":{},"data_offsets":[0,0])", shape), 0);
  };
  EXPECT_SAYS(with_shape("[4294967296,4294967296]"), "makes 2^63 elements or more");
  EXPECT_SAYS(with_shape("[18446744073709551615]"), "makes 2^63 elements or more");
  EXPECT_SAYS(with_shape("[4611686018427387904]"), "make 2^63 bytes or more");  // 2^64 bytes
  EXPECT_SAYS(with_shape("[0,9223372036854775807,3]"), "makes 2^63 elements or more");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[1],"data_offsets":[18446744073709551612,0])", 4),
              "its data are at 18446744073709551612 to 0");
}

TEST(Safetensors, data_that_are_not_as_long_as_type_and_shape_say_are_refused) {
  EXPECT_EQ(read(safetensors_bytes(fmt::format(R"({{"a":{{{}}}}})", kGood), std::string(24, 'x'))),
            1u);
  EXPECT_SAYS(refusal_of(R"("dtype":"F16","shape":[2,3],"data_offsets":[0,24])", 24),
              "at 0 to 24, but dtype and shape make 12 bytes");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[2,3],"data_offsets":[0,23])", 24), "24 bytes");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[2,0],"data_offsets":[0,4])", 4), "make 0 bytes");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[1],"data_offsets":[4,0])", 4), "at 4 to 0");
}

TEST(Safetensors, gaps_overlaps_and_data_beyond_the_end_are_refused) {
  const auto two = [](uint64_t begin, uint64_t bytes) {
    return safetensors_bytes(
        fmt::format(R"({{"a":{{"dtype":"F32","shape":[2],"data_offsets":[0,8]}},)"
                    R"("b":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}}})",
                    begin, begin + 4),
        std::string(bytes, 'x'));
  };
  EXPECT_EQ(read(two(8, 12)), 2u);
  EXPECT_SAYS(refusal(two(9, 13)), "tensor \"b\": its data begin at 9, those before end at 8");
  EXPECT_SAYS(refusal(two(4, 8)), "tensor \"b\": its data begin at 4, those before end at 8");
  EXPECT_SAYS(refusal(two(0, 8)), "a gap or an overlap");
  EXPECT_SAYS(refusal(two(8, 11)), "tensor \"b\": its data end at 12 of 11 bytes");
  EXPECT_SAYS(refusal(two(8, 13)), "1 bytes follow the data of the last tensor");
  EXPECT_SAYS(refusal_of(R"("dtype":"F32","shape":[1],"data_offsets":[4,8])", 8),
              "begin at 4, those before end at 0");
}

TEST(Safetensors, a_hundred_thousand_tensors_take_little_time) {
  SafetensorsBuilder builder;
  for (int i = 0; i < 100'000; ++i)
    builder.tensor(fmt::format("model.layers.{}.weight", i), {0}, {});
  const std::string bytes = builder.bytes();
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(read(bytes), 100'000u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Safetensors, a_changed_byte_is_refused_or_does_no_harm) {
  const std::string good = small();
  size_t refused = 0;
  for (size_t at = 0; at < good.size(); ++at) {
    for (const char value : {'\0', '\xff', '"', '9', '{', ']', char(good[at] ^ 1)}) {
      std::string bytes = good;
      bytes[at] = value;
      try {
        read(bytes);
      } catch (const Error& error) {
        EXPECT_TRUE(std::string_view(error.what()).starts_with("cannot read ")) << error.what();
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, 5 * good.size());
}

}  // namespace
}  // namespace ms
