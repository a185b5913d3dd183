// tuning_test.cpp: tables of tuned constants, kept and read again.
#include "gpu/tuning.hpp"

#include <gtest/gtest.h>

#include <fstream>

#include "base/error.hpp"
#include "gpu/caps.hpp"

namespace ms::gpu {

namespace {

std::filesystem::path fresh_folder() {
  const std::filesystem::path folder =
      std::filesystem::path(testing::TempDir()) /
      testing::UnitTest::GetInstance()->current_test_info()->name();
  std::filesystem::remove_all(folder);
  return folder;
}

void write(const std::filesystem::path& file, std::string_view text) {
  std::filesystem::create_directories(file.parent_path());
  std::ofstream(file) << text;
}

std::string error_of(const std::filesystem::path& file) {
  try {
    load_tuning(file);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

}  // namespace

TEST(Tuning, comes_back_as_it_was_kept) {
  const auto file = fresh_folder() / "new" / "device.txt";
  EXPECT_TRUE(load_tuning(file).empty());
  const Tuning tuning{
      {"matmul_gemv q4_0 [6144, 4096] int16", {{"ROWS", 2}, {"WORKGROUP_SIZE", 512}}},
      {"a key: with a colon", {}}};
  save_tuning(file, tuning);
  EXPECT_EQ(load_tuning(file), tuning);
  save_tuning(file, {});
  EXPECT_TRUE(load_tuning(file).empty());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(file.parent_path()), {}), 1);
}

TEST(Tuning, has_a_file_for_each_device_driver_and_set_of_features) {
  Caps caps;
  caps.name = "A card / 2", caps.driver = "1.0", caps.variant.subgroups = true;
  const auto file = tuning_file("folder", caps);
  EXPECT_EQ(file.parent_path(), "folder");
  caps.robust = false;
  EXPECT_NE(tuning_file("folder", caps), file);
  caps.robust = true, caps.driver = "1.1";
  EXPECT_NE(tuning_file("folder", caps), file);
}

TEST(Tuning, says_which_line_is_wrong) {
  const auto file = fresh_folder() / "device.txt";
  for (const std::string_view line : {"no values", "key: ROWS", "key: ROWS=", "key: ROWS=two",
                                      "key: ROWS=2x", "key: ROWS=99999999999", "key: =2"}) {
    write(file, fmt::format("good: ROWS=1\n{}\n", line));
    EXPECT_NE(error_of(file).find("device.txt, line 2: "), std::string::npos) << line;
    EXPECT_NE(error_of(file).find("mainspring tune"), std::string::npos) << line;
  }
}

TEST(Tuning, a_folder_that_cannot_be_written_is_an_error) {
  const auto folder = fresh_folder();
  write(folder / "file", "");
  EXPECT_THROW(save_tuning(folder / "file" / "device.txt", {}), Error);
}

}  // namespace ms::gpu
