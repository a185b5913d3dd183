// blob_cache.hpp: a folder of compiled pipelines, kept between runs for Dawn. For gpu/ only.
//
// One file a blob, named by a hash of Dawn's key; written aside and renamed, so readers never see
// half a file. A file whose key or checksum does not match is ignored: the cache may be shared, cut
// or stale.
#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace ms::gpu {

class BlobCache {
 public:
  // Creates the folder; a folder that cannot be made leaves a cache that holds nothing. Empty: no
  // cache.
  explicit BlobCache(std::filesystem::path folder);

  std::vector<uint8_t> load(std::span<const uint8_t> key) const;  // empty when absent
  void store(std::span<const uint8_t> key, std::span<const uint8_t> value) const;

 private:
  std::filesystem::path file(std::span<const uint8_t> key) const;
  std::filesystem::path folder_;
};

}  // namespace ms::gpu
