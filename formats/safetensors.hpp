// safetensors.hpp: a reader of safetensors files: the length of a header, the header (JSON), data.
//
// Checked as the format's own reader does: a header of at most 100 MB, names that differ, data that
// cover the rest of the file without gaps and overlaps, each as long as type and shape say.
#pragma once
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

#include "formats/model_file.hpp"

namespace ms {

// Text and data live in the ModelFile that keeps the file.
struct SafeTensor {
  std::string_view name;
  std::string_view dtype;           // the format's word: "BF16"
  std::vector<uint64_t> shape;      // row-major
  std::span<const std::byte> data;  // at any address
};

// The tensors of a file, by the place of their data. `keeper` keeps the file open; its metadata and
// tensors do not change. Throws Error that names the file, and what in it is wrong.
std::vector<SafeTensor> read_safetensors(const std::filesystem::path& path, ModelFile& keeper);

}  // namespace ms
