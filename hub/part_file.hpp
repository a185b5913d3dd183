// part_file.hpp: a file that arrives piece by piece, and its checksum.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string_view>

#include "hub/repository.hpp"

struct evp_md_ctx_st;  // OpenSSL's

namespace ms {

using OnBytes = std::function<void(uint64_t done)>;

// The checksum that the hub gives for a file, of bytes that come in turn.
class Checksum {
 public:
  explicit Checksum(const RepositoryFile& file);
  void add(std::string_view bytes);
  // True where the hub gave none. Ends it.
  bool matches();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
  std::string wanted_;  // in hexadecimal digits
};

// Whether a file has the size and the checksum that the hub gives.
bool is_whole(const std::filesystem::path& path, const RepositoryFile& file,
              const OnBytes& on_bytes);

class PartFile {
 public:
  // Goes on from what the file holds, if that is no more than it should.
  PartFile(std::filesystem::path path, const RepositoryFile& file, const OnBytes& on_bytes);
  PartFile(const PartFile&) = delete;
  PartFile& operator=(const PartFile&) = delete;
  ~PartFile();  // leaves no empty file

  uint64_t size() const { return size_; }
  void append(std::string_view bytes);  // throws Error where the disk is full
  void restart();                       // from nothing
  // Whether the contents are right; then they are on the disk.
  bool finish();

 private:
  std::filesystem::path path_;
  const RepositoryFile& file_;
  int fd_;
  uint64_t size_ = 0;
  Checksum checksum_;
};

}  // namespace ms
