// migration.cpp: parsing migration.tsv.
#include "kernels/migration.hpp"

#include <algorithm>

#include "base/error.hpp"

namespace ms {

extern const std::string_view migration_tsv;  // made by the build

namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::vector<std::pair<std::string_view, std::string_view>> settings(std::string_view text) {
  std::vector<std::pair<std::string_view, std::string_view>> result;
  if (text.empty()) return result;
  for (const std::string_view setting : split(text, ';')) {
    const size_t equals = setting.find('=');
    require(equals != setting.npos, "\"{}\" is not NAME=VALUE", setting);
    result.emplace_back(setting.substr(0, equals), setting.substr(equals + 1));
  }
  return result;
}

}  // namespace

std::vector<Migrated> read_migration(std::string_view tsv) {
  std::vector<Migrated> rows;
  const auto lines = split(tsv, '\n');
  for (size_t i = 1; i < lines.size(); ++i) {  // the first names the columns
    if (lines[i].empty()) continue;
    const auto column = split(lines[i], '\t');
    require(column.size() == 8, "migration.tsv line {}: {} columns, not 8", i + 1, column.size());
    rows.push_back({column[0], column[1], column[2], column[3], settings(column[4]),
                    settings(column[5]), column[6], column[7]});
  }
  return rows;
}

std::span<const Migrated> migration() {
  static const std::vector<Migrated> rows = read_migration(migration_tsv);
  return rows;
}

}  // namespace ms
