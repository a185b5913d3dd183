// blob_cache.cpp: files of compiled pipelines.
#include "gpu/blob_cache.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <fstream>

namespace ms::gpu {

namespace {

// FNV-1a, 64 bits: names files and guards against damage, not against malice.
uint64_t hash(std::span<const uint8_t> bytes, uint64_t seed) {
  for (uint8_t byte : bytes) seed = (seed ^ byte) * 0x100000001b3;
  return seed;
}

struct Header {
  char magic[8] = {'M', 'S', 'B', 'L', 'O', 'B', '0', '1'};
  uint64_t key_hash = 0;  // of another seed than the file's name
  uint64_t value_bytes = 0;
  uint64_t value_hash = 0;
};

constexpr uint64_t name_seed = 0xcbf29ce484222325, check_seed = 0x9ae16a3b2f90404f;

}  // namespace

BlobCache::BlobCache(std::filesystem::path folder) : folder_(std::move(folder)) {
  if (folder_.empty()) return;
  std::error_code error;
  std::filesystem::create_directories(folder_, error);
  if (!std::filesystem::is_directory(folder_, error)) folder_.clear();
}

std::filesystem::path BlobCache::file(std::span<const uint8_t> key) const {
  return folder_ / fmt::format("{:016x}.bin", hash(key, name_seed));
}

std::vector<uint8_t> BlobCache::load(std::span<const uint8_t> key) const {
  if (folder_.empty()) return {};
  std::ifstream in(file(key), std::ios::binary | std::ios::ate);
  if (!in) return {};
  const uint64_t size = uint64_t(in.tellg());
  in.seekg(0);
  Header header;
  if (size < sizeof(header) || !in.read(reinterpret_cast<char*>(&header), sizeof(header)))
    return {};
  if (std::memcmp(header.magic, Header().magic, 8) != 0 ||
      header.key_hash != hash(key, check_seed) || header.value_bytes != size - sizeof(header))
    return {};
  std::vector<uint8_t> value(header.value_bytes);
  if (!in.read(reinterpret_cast<char*>(value.data()), std::streamsize(value.size()))) return {};
  if (hash(value, check_seed) != header.value_hash) return {};
  return value;
}

void BlobCache::store(std::span<const uint8_t> key, std::span<const uint8_t> value) const {
  if (folder_.empty()) return;
  static std::atomic<uint32_t> serial = 0;
  const auto path = file(key);
  const auto part =
      folder_ / fmt::format("{}.{}.{}.part", path.filename().string(), getpid(), serial++);
  Header header;
  header.key_hash = hash(key, check_seed);
  header.value_bytes = value.size();
  header.value_hash = hash(value, check_seed);
  std::error_code error;
  {
    std::ofstream out(part, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&header), sizeof(header));
    out.write(reinterpret_cast<const char*>(value.data()), std::streamsize(value.size()));
    out.close();
    if (!out) {  // a full disk costs the next start some time, nothing else
      std::filesystem::remove(part, error);
      return;
    }
  }
  std::filesystem::rename(part, path, error);
  if (error) std::filesystem::remove(part, error);
}

}  // namespace ms::gpu
