// gguf_parts_test.cpp: models that are split over several GGUF files.
#include <gtest/gtest.h>

#include "base/error.hpp"
#include "base/test_errors.hpp"
#include "base/test_files.hpp"
#include "formats/gguf_builder.hpp"
#include "formats/model_file.hpp"

namespace ms {
namespace {

// Three parts, to be spoilt: the tensors "a" and "b", none, and "c".
class GgufParts : public testing::Test {
 protected:
  GgufParts() {
    for (uint16_t i = 0; i < 3; ++i) {
      builders[i].set("split.no", i).set("split.count", uint16_t{3}).set("split.tensors.count", 3);
    }
    builders[0].set("general.architecture", "llama");
    tensor(0, "a"), tensor(0, "b"), tensor(2, "c");
  }

  void tensor(size_t part, std::string_view name) {
    builders[part].tensor(name, TensorType::f32, {3}, gguf_ramp(3));
  }

  std::filesystem::path path(size_t part) const {
    return folder.path() / fmt::format("m-{:05}-of-00003.gguf", part + 1);
  }

  void write(size_t part, const std::string& bytes) const {
    std::ofstream(path(part), std::ios::binary) << bytes;
  }

  // Of the files as they are now, opened by the name of one of them.
  std::string refusal(size_t opened = 0) const {
    return message_of<Error>([&] { open_model(path(opened)); });
  }

  void write_all() const {
    for (size_t i = 0; i < 3; ++i) write(i, builders[i].bytes());
  }

  TemporaryFolder folder;
  GgufBuilder builders[3];
};

TEST_F(GgufParts, any_part_opens_all) {
  write_all();
  for (size_t opened = 0; opened < 3; ++opened) {
    const ModelFile file = open_model(path(opened));
    EXPECT_EQ(file.path(), path(0));
    EXPECT_EQ(file.get_string("general.architecture"), "llama");
    ASSERT_EQ(file.tensors().size(), 3u);
    EXPECT_GT(file.mapped_bytes(), builders[0].bytes().size());
    for (const std::string_view name : {"a", "b", "c"}) {
      std::vector<float> values(3);
      decode(TensorType::f32, file.find_tensor(name)->data, values);
      EXPECT_EQ(values, gguf_ramp(3));
    }
  }
}

TEST_F(GgufParts, a_single_part_needs_no_special_name) {
  const TemporaryFile file(GgufBuilder()
                               .set("split.no", uint16_t{0})
                               .set("split.count", uint16_t{1})
                               .tensor("a", TensorType::f32, {3}, gguf_ramp(3))
                               .bytes());
  EXPECT_EQ(open_model(file.path()).tensors().size(), 1u);
}

TEST_F(GgufParts, a_missing_part_is_named) {
  write_all();
  std::filesystem::remove(path(1));
  for (const size_t opened : {0, 2}) {
    const std::string message = refusal(opened);
    EXPECT_SAYS(message, path(1).string() + ": this part of " + path(opened).string());
    EXPECT_SAYS(message, "is missing; all 3 must lie in one folder");
  }
  std::filesystem::create_symlink(path(1).filename(), path(1));
  EXPECT_SAYS(refusal(), "symbolic links");
}

TEST_F(GgufParts, a_part_under_another_name_is_refused) {
  write_all();
  const auto renamed = folder.path() / "renamed.gguf";
  std::filesystem::copy_file(path(2), renamed);
  const std::string message = message_of<Error>([&] { open_model(renamed); });
  EXPECT_SAYS(message, renamed.string() + ": it is part 3 of 3, but its name does not end with");
  EXPECT_SAYS(message, "-00003-of-00003.gguf");
  std::filesystem::copy_file(path(2), path(1), std::filesystem::copy_options::overwrite_existing);
  EXPECT_SAYS(refusal(),
              path(1).string() + ": split.no is 2 and split.count 3, where 1 and 3 are needed");
}

TEST_F(GgufParts, a_part_that_tells_another_number_or_count_is_refused) {
  write_all();
  const GgufBuilder of_four = GgufBuilder().set("split.no", uint16_t{1}).set("split.count", 4);
  write(1, of_four.bytes());
  EXPECT_SAYS(refusal(), path(1).string() + ": split.no is 1 and split.count 4");
  EXPECT_SAYS(refusal(), "where 1 and 3 are needed");
  EXPECT_SAYS(refusal(1), "its name does not end with -00002-of-00004.gguf");
  write(1, GgufBuilder().set("split.no", uint16_t{1}).bytes());
  EXPECT_SAYS(refusal(), path(1).string() + ": split.no is 1 and split.count 1");
  write(1, GgufBuilder().bytes());
  EXPECT_SAYS(refusal(), path(1).string() + ": metadata \"split.no\" is missing");
  const GgufBuilder beyond = GgufBuilder().set("split.no", UINT64_MAX).set("split.count", 3);
  write(1, beyond.bytes());
  EXPECT_SAYS(refusal(), path(1).string() + ": split.no is 18446744073709551615 and");
  EXPECT_SAYS(refusal(1), "split.no is 18446744073709551615, but split.count is 3");
}

TEST_F(GgufParts, a_tensor_in_two_parts_is_refused) {
  tensor(2, "b");
  write_all();
  EXPECT_SAYS(refusal(), path(2).string() + ": tensor \"b\" is in an earlier part, too");
}

TEST_F(GgufParts, too_few_or_too_many_tensors_are_refused) {
  tensor(1, "d");
  write_all();
  EXPECT_SAYS(refusal(), path(0).string() + ": the 3 parts hold 4 tensors");
  EXPECT_SAYS(refusal(), "split.tensors.count is 3");
}

TEST_F(GgufParts, a_damaged_part_is_named) {
  write_all();
  const std::string bytes = builders[2].bytes();
  write(2, bytes.substr(0, bytes.size() - 1));
  EXPECT_SAYS(refusal(), "cannot read " + path(2).string());
}

}  // namespace
}  // namespace ms
