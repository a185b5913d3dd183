// kernel_rows.cpp: mainspring kernels --migration, --before and --regress.
#include "apps/kernel_rows.hpp"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "kernels/before.hpp"
#include "kernels/migration_cases.hpp"

namespace ms {

namespace {

std::string settings(const auto& pairs) {
  std::string text;
  for (const auto& [name, value] : pairs)
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  return text;
}

double sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::string name_of(const Migrated& row) { return fmt::format("{} {}", row.file, row.entry); }

// A GPU is timed at a model's shapes; a CPU would take minutes for them.
bool large(const gpu::Device& device) { return !device.caps().cpu; }

// Microseconds of a row, of its last case; nothing where there is no time, or its memory is beyond
// the device's limits.
std::string time_row(gpu::Device& device, const Migrated& row) {
  std::string time;
  if (!device.caps().timestamps) return time;
  try {
    run_cases(device, row, large(device), [&](Lab&, const MigrationCase& c) {
      const gpu::Recording recording = device.record(c.work);
      device.warm_up(recording);
      time = fmt::format("{:.1f}", sum(device.time(recording, 5)));
    });
  } catch (const std::invalid_argument&) {
  }
  return time;
}

}  // namespace

void show_migration(const GlobalOptions& options) {
  const auto device = gpu::Device::open(device_options(options));
  std::vector<std::vector<std::string>> rows = {{"OLD FILE", "OLD ENTRY", "KERNEL", "OVERRIDES",
                                                 "PARAMETERS", "RESULT", "µs",
                                                 "WHAT IT WAS; DECISION"}};
  size_t passed = 0, failed = 0, refused = 0;
  std::string errors;
  Progress progress("checking");
  for (size_t i = 0; i < migration().size(); ++i) {
    const Migrated& row = migration()[i];
    progress(i, migration().size());
    std::string result = row.kernel == "(deleted)" ? "no kernel" : "ok", time;
    try {
      const bool here = run_cases(*device, row, false, [&](Lab& lab, const MigrationCase& c) {
        check_selected(row, c.work);
        lab.check(c.work, c.tolerance);
      });
      ++(here ? passed : refused);
      if (!here) result = "needs a feature";
      if (here) time = time_row(*device, row);
    } catch (const std::exception& error) {
      ++failed, result = "FAILED";
      errors += fmt::format("\n{}: {}", name_of(row), error.what());
    }
    rows.push_back(
        {std::string(row.file), std::string(row.entry), std::string(row.kernel),
         settings(row.overrides), settings(row.params), result, time,
         fmt::format("{}{}{}", row.was, row.was.empty() || row.decision.empty() ? "" : "; ",
                     row.decision)});
  }
  progress.clear();
  print_table(rows);
  fmt::print("\n{} of {} rows match their twins on {}", passed, migration().size(),
             device->caps().name);
  if (refused) fmt::print("; {} ask for a feature that it lacks here", refused);
  fmt::print("\n");
  if (failed) fail("{} rows failed:{}", failed, errors);
}

void show_before(const GlobalOptions& options, const std::filesystem::path& folder) {
  Progress progress("comparing");
  const auto results = compare_before(folder, device_options(options),
                                      [&](size_t done, size_t all) { progress(done, all); });
  progress.clear();
  std::vector<std::vector<std::string>> rows = {{"OLD FILE", "OLD ENTRY", "KERNEL", "RESULT", ""}};
  std::map<Before, size_t> counts;
  for (const Compared& compared : results) {
    ++counts[compared.before];
    const Migrated& row = *compared.row;
    std::string detail = compared.detail;
    std::ranges::replace(detail, '\n', ' ');
    rows.push_back(
        {std::string(row.file),
         fmt::format("{}{}{}", row.entry, compared.setting.empty() ? "" : " ", compared.setting),
         std::string(row.kernel), std::string(to_string(compared.before)), detail});
  }
  print_table(rows);
  fmt::print("\n");
  for (const auto& [before, count] : counts) fmt::print("{:4}  {}\n", count, to_string(before));
  const size_t differ = counts[Before::different], broken = counts[Before::does_not_compile];
  if (differ + broken) fail("old entries: {} different, {} not compiling", differ, broken);
}

void show_regress(const GlobalOptions& options, const std::vector<std::string>& names) {
  require_kernels(names);
  // Two devices: the cache of one has every override in the modules' texts.
  gpu::DeviceOptions constants = device_options(options);
  constants.overrides_as_constants = true;
  const std::unique_ptr<gpu::Device> devices[] = {gpu::Device::open(device_options(options)),
                                                  gpu::Device::open(constants)};
  if (!devices[0]->caps().timestamps) fail("{} has no timestamps", devices[0]->caps().name);
  std::vector<std::vector<std::string>> rows = {
      {"OLD FILE", "OLD ENTRY", "KERNEL", "OVERRIDES µs", "CONSTANTS µs", "RATIO"}};
  std::vector<double> ratios;
  Progress progress("timing");
  for (size_t i = 0; i < migration().size(); ++i) {
    const Migrated& row = migration()[i];
    if (!names.empty() && std::ranges::find(names, row.kernel) == names.end()) continue;
    progress(i, migration().size());
    try {
      Lab labs[] = {Lab(*devices[0]), Lab(*devices[1])};
      std::vector<MigrationCase> cases[2];
      for (int form : {0, 1}) cases[form] = migration_cases(labs[form], row, large(*devices[0]));
      for (size_t j = 0; j < cases[0].size(); ++j) {
        gpu::Recording recordings[2];
        for (int form : {0, 1}) recordings[form] = devices[form]->record(cases[form][j].work);
        // The inputs of a row take seconds to make, in which the GPU rests; its cases do not.
        if (j == 0) devices[0]->warm_up(recordings[0]);
        double best[2] = {INFINITY, INFINITY};
        for (int round = 0; round < 5; ++round)
          for (int form : {0, 1})
            best[form] = std::min(best[form], sum(devices[form]->time(recordings[form], 5)));
        ratios.push_back(best[0] / best[1]);
        rows.push_back({std::string(row.file),
                        fmt::format("{}{}{}", row.entry, cases[0][j].setting.empty() ? "" : " ",
                                    cases[0][j].setting),
                        std::string(row.kernel), fmt::format("{:.1f}", best[0]),
                        fmt::format("{:.1f}", best[1]), fmt::format("{:.3f}", ratios.back())});
      }
    } catch (const std::invalid_argument&) {  // for want of a feature
      rows.push_back({std::string(row.file), std::string(row.entry), std::string(row.kernel), "",
                      "", "needs a feature"});
    }
  }
  progress.clear();
  print_table(rows);
  if (ratios.empty()) return;
  double logs = 0;
  for (double ratio : ratios) logs += std::log(ratio);
  const auto [least, most] = std::ranges::minmax(ratios);
  fmt::print("\n{} cases: geometric mean of the ratios {:.3f}, from {:.3f} to {:.3f}\n",
             ratios.size(), std::exp(logs / double(ratios.size())), least, most);
}

}  // namespace ms
