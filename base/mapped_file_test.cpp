// mapped_file_test.cpp: what is mapped, what is refused, and who owns it.
#include "base/mapped_file.hpp"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/test_files.hpp"

namespace ms {
namespace {

std::string_view text(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

std::string refusal(const std::filesystem::path& path) {
  try {
    MappedFile file(path);
  } catch (const Error& error) {
    return error.what();
  }
  return "none";
}

TEST(MappedFile, holds_the_bytes_of_the_file) {
  const TemporaryFile file("some bytes");
  EXPECT_EQ(text(MappedFile(file.path())), "some bytes");
}

TEST(MappedFile, an_empty_file_has_no_bytes) {
  const TemporaryFile file;
  EXPECT_TRUE(MappedFile(file.path()).bytes().empty());
}

TEST(MappedFile, a_move_keeps_the_address_and_empties_the_source) {
  const TemporaryFile file("first");
  MappedFile source(file.path());
  const std::byte* address = source.bytes().data();
  MappedFile moved(std::move(source));
  EXPECT_EQ(moved.bytes().data(), address);
  EXPECT_TRUE(source.bytes().empty());

  const TemporaryFile other("second");
  MappedFile assigned(other.path());
  assigned = std::move(moved);
  EXPECT_EQ(text(assigned), "first");
}

TEST(MappedFile, a_missing_file_is_refused_by_name) {
  EXPECT_EQ(refusal("no/such.file"), "cannot open no/such.file: No such file or directory");
}

TEST(MappedFile, a_directory_is_refused) {
  const auto directory = std::filesystem::temp_directory_path();
  EXPECT_EQ(refusal(directory),
            "cannot open " + directory.string() + ": is a directory, not a file");
}

TEST(MappedFile, a_pipe_is_refused_and_does_not_hang) {
  const TemporaryFile file;
  std::filesystem::remove(file.path());
  ASSERT_EQ(mkfifo(file.path().c_str(), 0600), 0);
  EXPECT_EQ(refusal(file.path()),
            "cannot open " + file.path().string() + ": is not a regular file");
}

}  // namespace
}  // namespace ms
