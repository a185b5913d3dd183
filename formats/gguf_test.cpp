// gguf_test.cpp: what valid files give back, the typed look-ups, and the real files of the shared
// folder.
#include "formats/gguf.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.hpp"
#include "base/test_files.hpp"
#include "formats/gguf_builder.hpp"

namespace ms {
namespace {

TEST(Gguf, gives_back_metadata_of_every_type) {
  const TemporaryFile bytes(small_gguf());
  const ModelFile file = read_gguf(bytes.path());
  EXPECT_EQ(file.path(), bytes.path());
  EXPECT_EQ(file.format(), "GGUF version 3");
  EXPECT_EQ(file.mapped_bytes(), small_gguf().size());
  EXPECT_EQ(file.metadata().size(), 17u);
  EXPECT_EQ(*file.find("u8"), ModelFile::Value(uint8_t{200}));
  EXPECT_EQ(*file.find("i8"), ModelFile::Value(int8_t{-5}));
  EXPECT_EQ(*file.find("u16"), ModelFile::Value(uint16_t{60000}));
  EXPECT_EQ(*file.find("i16"), ModelFile::Value(int16_t{-300}));
  EXPECT_EQ(*file.find("u32"), ModelFile::Value(4000000000u));
  EXPECT_EQ(*file.find("i32"), ModelFile::Value(-70000));
  EXPECT_EQ(*file.find("f32"), ModelFile::Value(0.5f));
  EXPECT_EQ(*file.find("bool"), ModelFile::Value(true));
  EXPECT_EQ(*file.find("string"), ModelFile::Value(std::string_view("text")));
  EXPECT_EQ(*file.find("u64"), ModelFile::Value(UINT64_MAX));
  EXPECT_EQ(*file.find("i64"), ModelFile::Value(int64_t{-1} << 40));
  EXPECT_EQ(*file.find("f64"), ModelFile::Value(1e300));
  EXPECT_EQ(*file.find("floats"), ModelFile::Value(std::vector<float>{1, 2}));
  EXPECT_EQ(*file.find("strings"), ModelFile::Value(std::vector<std::string_view>{"a", "", "bc"}));
  EXPECT_EQ(*file.find("bools"), ModelFile::Value(std::vector<bool>{true, false}));
  EXPECT_EQ(*file.find("bytes"), ModelFile::Value(std::vector<int8_t>{-1, 2}));
  EXPECT_EQ(*file.find("none"), ModelFile::Value(std::vector<uint64_t>{}));
  EXPECT_EQ(file.find("absent"), nullptr);
}

TEST(Gguf, gives_back_tensors_with_row_major_shapes) {
  const TemporaryFile bytes(small_gguf());
  const ModelFile file = read_gguf(bytes.path());
  ASSERT_EQ(file.tensors().size(), 2u);
  const TensorInfo& matrix = file.tensors()[1];
  EXPECT_EQ(file.find_tensor("matrix"), &matrix);
  EXPECT_EQ(file.find_tensor("absent"), nullptr);
  EXPECT_EQ(matrix.name, "matrix");
  EXPECT_EQ(matrix.type, TensorType::q8_0);
  EXPECT_EQ(matrix.shape, (std::vector<uint64_t>{2, 32}));
  EXPECT_EQ(matrix.elements(), 64u);
  EXPECT_EQ(matrix.rows(), 2u);
  EXPECT_EQ(matrix.cols(), 32u);
  std::vector<float> values(64);
  decode(matrix.type, matrix.data, values);
  for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(values[i], gguf_ramp(64)[i], 0.5 * 57 / 127);
}

TEST(Gguf, a_scalar_and_four_dimensions_are_read) {
  const TemporaryFile bytes(GgufBuilder()
                                .tensor("scalar", TensorType::f32, {}, gguf_ramp(1))
                                .tensor("four", TensorType::f16, {2, 3, 4, 5}, gguf_ramp(120))
                                .bytes());
  const ModelFile file = read_gguf(bytes.path());
  const TensorInfo& scalar = *file.find_tensor("scalar");
  EXPECT_EQ(scalar.elements(), 1u);
  EXPECT_EQ(scalar.rows(), 1u);
  EXPECT_EQ(scalar.cols(), 1u);
  EXPECT_EQ(scalar.data.size(), 4u);
  const TensorInfo& four = *file.find_tensor("four");
  EXPECT_EQ(four.rows(), 24u);
  EXPECT_EQ(four.cols(), 5u);
  EXPECT_EQ(four.data.size(), 240u);
}

TEST(Gguf, an_empty_model_and_version_2_are_read) {
  const TemporaryFile empty(GgufBuilder().bytes());
  EXPECT_TRUE(read_gguf(empty.path()).tensors().empty());
  const TemporaryFile bytes(GgufBuilder(2).set("count", 7u).bytes());
  EXPECT_EQ(read_gguf(bytes.path()).format(), "GGUF version 2");
}

TEST(Gguf, survives_a_move) {
  const TemporaryFile bytes(small_gguf());
  ModelFile source = read_gguf(bytes.path());
  const ModelFile file = std::move(source);
  EXPECT_EQ(file.get_string("string"), "text");
  EXPECT_EQ(file.find_tensor("vector")->data.size(), 12u);
}

TEST(Gguf, any_power_of_two_is_an_alignment) {
  for (uint32_t alignment : {1u, 2u, 64u, 4096u}) {
    const TemporaryFile bytes(GgufBuilder()
                                  .alignment(alignment)
                                  .tensor("a", TensorType::f32, {3}, gguf_ramp(3))
                                  .tensor("b", TensorType::f32, {3}, gguf_ramp(3))
                                  .bytes());
    const ModelFile file = read_gguf(bytes.path());
    EXPECT_EQ(file.get_uint("general.alignment"), alignment);
    for (const TensorInfo& tensor : file.tensors()) {
      std::vector<float> values(3);
      decode(tensor.type, tensor.data, values);
      EXPECT_EQ(values, gguf_ramp(3));
    }
  }
}

TEST(Gguf, typed_look_ups_convert_what_they_may) {
  const TemporaryFile bytes(small_gguf());
  const ModelFile file = read_gguf(bytes.path());
  EXPECT_EQ(file.get_uint("u8"), 200u);
  EXPECT_EQ(file.get_uint("u64"), UINT64_MAX);
  EXPECT_EQ(file.get_float("f32"), 0.5);
  EXPECT_EQ(file.get_float("f64"), 1e300);
  EXPECT_EQ(file.get_float("i16"), -300);
  EXPECT_EQ(file.find_bool("bool"), true);
  EXPECT_EQ(file.get_string("string"), "text");
  EXPECT_EQ(*file.find_strings("strings"), (std::vector<std::string_view>{"a", "", "bc"}));
  EXPECT_EQ(*file.find_floats("floats"), (std::vector<float>{1, 2}));
  EXPECT_EQ(file.find_ints("bytes"), (std::vector<int64_t>{-1, 2}));
  EXPECT_EQ(file.find_ints("none"), std::vector<int64_t>{});
}

TEST(Gguf, an_absent_key_is_nothing_or_an_error_that_names_it) {
  const TemporaryFile bytes(small_gguf());
  const ModelFile file = read_gguf(bytes.path());
  EXPECT_EQ(file.find_uint("absent"), std::nullopt);
  EXPECT_EQ(file.find_float("absent"), std::nullopt);
  EXPECT_EQ(file.find_bool("absent"), std::nullopt);
  EXPECT_EQ(file.find_string("absent"), std::nullopt);
  EXPECT_EQ(file.find_strings("absent"), nullptr);
  EXPECT_EQ(file.find_floats("absent"), nullptr);
  EXPECT_EQ(file.find_ints("absent"), std::nullopt);
  EXPECT_THROW(file.get_uint("absent"), Error);
  EXPECT_THROW(file.get_float("absent"), Error);
  try {
    file.get_string("absent");
    FAIL() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(),
              bytes.path().string() + ": metadata \"absent\" is missing: is this the right file?");
  }
}

TEST(Gguf, a_value_of_another_type_is_an_error_that_names_both) {
  const TemporaryFile bytes(small_gguf());
  const ModelFile file = read_gguf(bytes.path());
  const auto message = [&](auto look_up) -> std::string {
    try {
      look_up();
    } catch (const Error& error) {
      return std::string(error.what()).substr(bytes.path().string().size());
    }
    return "none";
  };
  EXPECT_EQ(message([&] { file.find_uint("f32"); }),
            ": metadata \"f32\" is f32; an integer is needed");
  EXPECT_EQ(message([&] { file.find_uint("bool"); }),
            ": metadata \"bool\" is bool; an integer is needed");
  EXPECT_EQ(message([&] { file.find_uint("i32"); }),
            ": metadata \"i32\" is -70000; it must not be negative");
  EXPECT_EQ(message([&] { file.get_float("string"); }),
            ": metadata \"string\" is string; a number is needed");
  EXPECT_EQ(message([&] { file.find_bool("u8"); }), ": metadata \"u8\" is u8; bool is needed");
  EXPECT_EQ(message([&] { file.find_string("strings"); }),
            ": metadata \"strings\" is an array of string; string is needed");
  EXPECT_EQ(message([&] { file.find_strings("string"); }),
            ": metadata \"string\" is string; an array of string is needed");
  EXPECT_EQ(message([&] { file.find_floats("bytes"); }),
            ": metadata \"bytes\" is an array of i8; an array of f32 is needed");
  EXPECT_EQ(message([&] { file.find_ints("floats"); }),
            ": metadata \"floats\" is an array of f32; an array of integers is needed");
  EXPECT_EQ(message([&] { file.find_ints("u8"); }),
            ": metadata \"u8\" is u8; an array of integers is needed");
}

TEST(Gguf, an_integer_beyond_i64_in_an_array_is_an_error) {
  const TemporaryFile bytes(GgufBuilder().set("key", std::vector<uint64_t>{1, UINT64_MAX}).bytes());
  EXPECT_THROW(read_gguf(bytes.path()).find_ints("key"), Error);
}

TEST(Gguf, the_tiny_models_have_the_shapes_of_their_configuration) {
  const auto folder = shared_folder() / "golden";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there";
  const ModelFile file = read_gguf(folder / "tiny-q4_k_m.gguf");
  EXPECT_EQ(file.get_string("general.architecture"), "llama");
  EXPECT_EQ(file.get_uint("llama.block_count"), 2u);
  EXPECT_EQ(file.get_uint("llama.embedding_length"), 256u);
  EXPECT_EQ(file.get_float("llama.rope.freq_base"), 500000);
  EXPECT_EQ(file.tensors().size(), 21u);
  const auto shape = [&](std::string_view name) { return file.find_tensor(name)->shape; };
  EXPECT_EQ(shape("token_embd.weight"), (std::vector<uint64_t>{512, 256}));
  EXPECT_EQ(shape("blk.0.attn_k.weight"), (std::vector<uint64_t>{128, 256}));
  EXPECT_EQ(shape("blk.1.ffn_down.weight"), (std::vector<uint64_t>{256, 512}));
  EXPECT_EQ(shape("output_norm.weight"), (std::vector<uint64_t>{256}));
  EXPECT_EQ(file.find_tensor("output.weight")->type, TensorType::q6_k);
  EXPECT_EQ(file.find_tensor("blk.0.attn_q.weight")->type, TensorType::q4_k);
}

TEST(Gguf, tensors_of_real_files_decode_to_finite_values) {
  if (!std::filesystem::exists(shared_folder())) GTEST_SKIP() << shared_folder() << " is not there";
  size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(shared_folder())) {
    if (entry.path().extension() != ".gguf") continue;
    ++files;
    const ModelFile file = read_gguf(entry.path());
    EXPECT_FALSE(file.get_string("general.architecture").empty());
    for (const TensorInfo& tensor : file.tensors()) {
      std::vector<float> values(tensor.elements());
      decode(tensor.type, tensor.data, values);
      for (float value : values) ASSERT_TRUE(std::isfinite(value)) << entry.path() << tensor.name;
    }
  }
  EXPECT_GT(files, 0u);
}

}  // namespace
}  // namespace ms
