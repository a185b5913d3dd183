// kernel_rows.hpp: what `mainspring kernels` says of the rows of migration.tsv, on this device.
#pragma once
#include <filesystem>

#include "apps/common.hpp"

namespace ms {

// Each row: what replaces the old entry, whether it matches its twin here, and how long it takes.
// Throws Error when one does not match.
void show_migration(const GlobalOptions& options);

// Each row beside the old file's entry, on the same inputs; and how many of them are what.
void show_before(const GlobalOptions& options, const std::filesystem::path& folder);

// Each row, or those of the kernels named, with overrides and with constants in their place: the
// times and their ratio.
void show_regress(const GlobalOptions& options, const std::vector<std::string>& names);

}  // namespace ms
