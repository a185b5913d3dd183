// before.hpp: running the old library's own files beside what replaces them, on the same inputs.
//
// Bindings and uniform fields are found by their names in the files, so that versions may differ.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "gpu/device.hpp"
#include "kernels/migration.hpp"

namespace ms {

enum class Before {
  equal,      // within the kernel's tolerance
  corrected,  // as a deliberate correction says: other values, or none if it says that
  different,
  does_not_compile,  // the detail has the compiler's lines
  not_understood,    // something in the file, or this device lacks a feature
  no_entry,          // the file has no such entry point
  no_file,
  deleted,  // nothing replaces it
};
std::string_view to_string(Before before);

struct Compared {
  const Migrated* row;
  std::string setting;  // of the parameters, where the row leaves a choice
  Before before;
  std::string detail;
};

// Each row of migration.tsv whose file is in the folder, run on a device of these options. Throws
// Error when there is no folder, or none of its files.
std::vector<Compared> compare_before(const std::filesystem::path& folder,
                                     gpu::DeviceOptions options,
                                     const std::function<void(size_t, size_t)>& progress = {});

}  // namespace ms
