// tuning.hpp: values of sizing constants that were measured to be the fastest on a device.
//
// A wrapper that has a choice looks for it here, under a key of its own that names the kernel and
// the shape, before it goes by rules. `mainspring tune` measures, and keeps a table a device as
// lines of text: "matmul_gemv q4_0 [6144, 4096] int16: WORKGROUP_SIZE=512 ROWS=2".
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>

namespace ms::gpu {

struct Caps;

using TunedValues = std::map<std::string, uint32_t>;  // by the constant's name
using Tuning = std::map<std::string, TunedValues>;    // by the wrapper's key

std::string to_string(const TunedValues& values);  // "ROWS=2 WORKGROUP_SIZE=512"

// The file of a device's table in a folder: named by the adapter, its driver and its features.
std::filesystem::path tuning_file(const std::filesystem::path& folder, const Caps& caps);

// Empty when there is no such file. Throws Error for one that is not of this form, with its line.
Tuning load_tuning(const std::filesystem::path& file);
// Writes it aside and renames it. Throws Error.
void save_tuning(const std::filesystem::path& file, const Tuning& tuning);

}  // namespace ms::gpu
