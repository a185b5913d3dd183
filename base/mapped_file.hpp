// mapped_file.hpp: a file mapped read-only into memory, for its owner's lifetime.
//
// The bytes keep their address when the owner is moved. Nobody may shorten the file meanwhile: the
// system answers a read beyond its new end with a signal.
#pragma once
#include <cstddef>
#include <filesystem>
#include <span>

namespace ms {

class MappedFile {
 public:
  // Throws Error where the path is missing, unreadable or not a regular file.
  explicit MappedFile(const std::filesystem::path& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }  // empty for an empty file

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace ms
