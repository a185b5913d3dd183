// part_file.cpp: writing, hashing.
#include "hub/part_file.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.hpp"

namespace ms {

namespace {

[[noreturn]] void fail_with_errno(std::string_view what, const std::filesystem::path& path) {
  fail("cannot {} {}: {}", what, path.string(), std::generic_category().message(errno));
}

// Reads a file to its end. Returns its bytes' number.
uint64_t read_all(int fd, const std::filesystem::path& path, Checksum& checksum,
                  const OnBytes& on_bytes) {
  std::vector<char> buffer(1 << 20);
  for (uint64_t done = 0;;) {
    const ssize_t count = read(fd, buffer.data(), buffer.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno("read", path);
    if (count == 0) return done;
    checksum.add({buffer.data(), size_t(count)});
    on_bytes(done += uint64_t(count));
  }
}

}  // namespace

void Checksum::Free::operator()(evp_md_ctx_st* context) const { EVP_MD_CTX_free(context); }

Checksum::Checksum(const RepositoryFile& file) {
  if (file.sha256.empty() && file.git_sha1.empty()) return;
  wanted_ = file.sha256.empty() ? file.git_sha1 : file.sha256;
  context_.reset(EVP_MD_CTX_new());
  const EVP_MD* const kind = file.sha256.empty() ? EVP_sha1() : EVP_sha256();
  if (!context_ || EVP_DigestInit_ex(context_.get(), kind, nullptr) != 1)
    fail("OpenSSL computes no {} here", file.sha256.empty() ? "SHA-1" : "SHA-256");
  if (file.sha256.empty()) {  // git hashes a file's length in front of it
    const std::string head = fmt::format("blob {}", file.size);
    add({head.c_str(), head.size() + 1});
  }
}

void Checksum::add(std::string_view bytes) {
  if (context_) EVP_DigestUpdate(context_.get(), bytes.data(), bytes.size());
}

bool Checksum::matches() {
  if (!context_) return true;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned length = 0;
  EVP_DigestFinal_ex(context_.get(), digest, &length);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text == wanted_;
}

bool is_whole(const std::filesystem::path& path, const RepositoryFile& file,
              const OnBytes& on_bytes) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return false;
  struct stat status;
  const bool candidate =
      fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && uint64_t(status.st_size) == file.size;
  Checksum checksum(file);
  try {
    const bool read = candidate && read_all(fd, path, checksum, on_bytes) == file.size;
    close(fd);
    return read && checksum.matches();
  } catch (...) {
    close(fd);
    throw;
  }
}

PartFile::PartFile(std::filesystem::path path, const RepositoryFile& file, const OnBytes& on_bytes)
    : path_(std::move(path)),
      file_(file),
      fd_(open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666)),
      checksum_(file) {
  if (fd_ < 0) fail_with_errno("write", path_);
  try {
    struct stat status;
    if (fstat(fd_, &status) != 0) fail_with_errno("read", path_);
    if (!S_ISREG(status.st_mode)) fail("{} is not a regular file: move it away", path_.string());
    if (uint64_t(status.st_size) <= file.size)
      size_ = read_all(fd_, path_, checksum_, on_bytes);
    else
      restart();
  } catch (...) {
    close(fd_);
    throw;
  }
}

PartFile::~PartFile() {
  close(fd_);
  if (size_ == 0 && file_.size > 0) unlink(path_.c_str());  // nothing to go on from
}

void PartFile::append(std::string_view bytes) {
  if (bytes.size() > file_.size - size_)
    fail("{} is longer than the {} bytes that the hub's list gives it", file_.path, file_.size);
  for (std::string_view left = bytes; !left.empty();) {
    const ssize_t count = pwrite(fd_, left.data(), left.size(), off_t(size_));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail_with_errno("write", path_);
    checksum_.add(left.substr(0, size_t(count)));
    size_ += uint64_t(count);
    left.remove_prefix(size_t(count));
  }
}

void PartFile::restart() {
  if (ftruncate(fd_, 0) != 0) fail_with_errno("write", path_);
  size_ = 0;
  checksum_ = Checksum(file_);
}

bool PartFile::finish() {
  if (size_ != file_.size || !checksum_.matches()) return false;
  if (fsync(fd_) != 0) fail_with_errno("write", path_);
  return true;
}

}  // namespace ms
