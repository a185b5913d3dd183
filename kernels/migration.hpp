// migration.hpp: kernels/migration.tsv: every entry point of the library that this one replaces,
// and what replaces it.
#pragma once
#include <span>
#include <string_view>
#include <utility>
#include <vector>

namespace ms {

struct Migrated {
  std::string_view family;
  std::string_view file, entry;  // of the old library
  std::string_view kernel;       // "(deleted)" when nothing replaces it
  // What selects the old behaviour: overrides, and parameters or arguments, each name and value.
  std::vector<std::pair<std::string_view, std::string_view>> overrides, params;
  std::string_view was;       // what is worth knowing of the old one
  std::string_view decision;  // where the new one does otherwise
};

// Every row, in the file's order; the build embeds the file.
std::span<const Migrated> migration();
// Throws std::invalid_argument that names the line of a row that does not have eight columns.
std::vector<Migrated> read_migration(std::string_view tsv);

}  // namespace ms
