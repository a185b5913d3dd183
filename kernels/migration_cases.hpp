// migration_cases.hpp: what each row of migration.tsv runs: the new kernel over some memory, and
// what the old entry is given, by its own names, to compute the same.
#pragma once
#include <array>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/lab.hpp"
#include "kernels/migration.hpp"

namespace ms {

// A binding of the old entry, under any of the names that its versions use. Of several with the
// same names, the first whose type is what the file declares is bound, else the first.
struct OldBinding {
  std::vector<std::string_view> names;
  gpu::View view;
  // The new kernel's output whose elements the old one must have; absent: read.
  gpu::View want = {};
  // Number of the deliberate correction by which they, or the type, may differ; by being unwritten
  // only if so marked.
  int correction = 0;
  bool unwritten = false;
};

// A field of the old uniforms. One that has another meaning beside a second field comes first.
struct OldField {
  std::vector<std::string_view> names;
  double value = 0;
  std::string_view beside = {};
};

using Workgroup = std::array<uint32_t, 3>;

struct MigrationCase {
  std::string setting;  // the parameters, where the row leaves a choice: "has_residual=1"
  gpu::Work work;
  Tolerance tolerance = {};
  std::vector<std::string_view> entries = {};  // further names of the old entry
  std::vector<OldBinding> bindings = {};
  std::vector<OldField> fields = {};
  std::function<gpu::Grid(Workgroup)> grid = {};  // of the old entry, for its workgroup size
};

// The cases of a row: one for each choice that its parameters leave; none for a deleted kernel.
// Small ones for tests, or of a model's shapes for timing. Memory is the lab's. Throws
// std::invalid_argument where the device lacks a feature that the row's overrides ask for.
std::vector<MigrationCase> migration_cases(Lab& lab, const Migrated& row, bool large = false);

// Calls run(lab, c) for each case of a row; false where none can be made, for want of a feature.
bool run_cases(gpu::Device& device, const Migrated& row, bool large,
               const std::function<void(Lab&, const MigrationCase&)>& run);

// Throws Error unless one dispatch of the work is of the row's kernel and has its overrides' and
// parameters' values.
void check_selected(const Migrated& row, const gpu::Work& work);

// The deliberate corrections of the old library's behaviour, by number from 1.
std::string_view correction(int number);

}  // namespace ms
