// gguf.hpp: a reader of GGUF model files, versions 2 and 3 (little-endian), memory-mapped.
//
// Follows the GGUF specification (ggml/docs/gguf.md). Every count, offset and size from the file is
// checked before use; a file that lies is an Error that names the file, the field and the byte
// offset. Tensors may lie in any order and with gaps; they may not overlap, so all of them together
// are no larger than the file.
//
// A model split over files, like m-00001-of-00003.gguf, is read whole by the name of any of them.
#pragma once
#include <filesystem>

#include "formats/model_file.hpp"

namespace ms {

ModelFile read_gguf(const std::filesystem::path& path);

}  // namespace ms
