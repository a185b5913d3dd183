// test_files.hpp: for tests only: temporary files and folders, and where the shared reference files
// lie.
//
// MS_SOURCE_DIR is a compile definition of the test programs.
#pragma once
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>

#include "base/error.hpp"

namespace ms {

// A file with a name of its own that is removed with its owner.
class TemporaryFile {
 public:
  explicit TemporaryFile(std::string_view contents = {}) {
    std::string name = (std::filesystem::temp_directory_path() / "mainspring-XXXXXX").string();
    const int fd = mkstemp(name.data());
    if (fd < 0) fail("cannot make a temporary file like {}", name);
    close(fd);
    path_ = name;
    write(contents);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

  // Replaces what the file holds. In place: some file systems wait for the disk after a truncation.
  void write(std::string_view contents) {
    std::fstream stream(path_, std::ios::binary | std::ios::in | std::ios::out);
    stream.write(contents.data(), static_cast<std::streamsize>(contents.size()));
    stream.close();
    if (!stream) fail("cannot write {} bytes to {}", contents.size(), path_.string());
    std::filesystem::resize_file(path_, contents.size());
  }

 private:
  std::filesystem::path path_;
};

// A folder with a name of its own that is removed with its owner.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "mainspring-XXXXXX").string();
    if (!mkdtemp(name.data())) fail("cannot make a temporary folder like {}", name);
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// What a file holds. Throws Error where there is none.
inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  if (!stream) fail("cannot read {}", path.string());
  return {std::istreambuf_iterator<char>(stream), {}};
}

// The folder of reference files; it may not exist, and then the tests that read it are skipped.
inline std::filesystem::path shared_folder() {
  const char* chosen = std::getenv("MAINSPRING_SHARED");
  return chosen != nullptr ? chosen : std::filesystem::path(MS_SOURCE_DIR) / ".." / "shared";
}

}  // namespace ms
