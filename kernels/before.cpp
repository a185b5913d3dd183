// before.cpp: running the entry points of old WGSL files, and judging what they write.
#include "kernels/before.hpp"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <optional>

#include "kernels/migration_cases.hpp"
#include "kernels/old_wgsl.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

bool names_it(const std::vector<std::string_view>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

std::vector<std::byte> uniform_bytes(const OldWgsl& file, const OldWgsl::Variable& uniform,
                                     const MigrationCase& of) {
  const auto* fields = file.fields(uniform.type);
  if (!fields) fail("the uniform {} is no struct", uniform.name);
  std::vector<uint32_t> words;
  for (const auto& [name, type] : *fields) {
    if (type != "u32" && type != "f32" && type != "i32")
      fail("the uniform field {} has the type {}", name, type);
    const auto means = std::ranges::find_if(of.fields, [&](const OldField& f) {
      return names_it(f.names, name) &&
             (f.beside.empty() ||
              std::ranges::find(*fields, f.beside, &OldWgsl::Field::name) != fields->end());
    });
    double value = 0;
    if (means != of.fields.end())
      value = means->value;
    else if (name.find("pad") == name.npos)
      fail("the uniform field {} is not known", name);
    words.push_back(type == "f32" ? std::bit_cast<uint32_t>(float(value)) : uint32_t(value));
  }
  words.resize((words.size() + 3) / 4 * 4);
  const auto bytes = std::as_bytes(std::span(words));
  return {bytes.begin(), bytes.end()};
}

struct Old {
  gpu::Dispatch dispatch;
  std::vector<const OldBinding*> bound;
};

// An old entry over a case's memory, but for its grid. The kernel is made in `kernels`, which must
// live as long as the device.
Old old_dispatch(const OldWgsl& file, std::string_view name, std::string_view entry,
                 const MigrationCase& of, std::deque<gpu::Kernel>& kernels) {
  const auto used = file.used_names(entry);
  std::map<uint32_t, const OldWgsl::Variable*> variables;
  for (const OldWgsl::Variable& variable : file.variables()) {
    const uint32_t index = file.binding(variable);
    if (index > 15) fail("{} has the binding {}", variable.name, index);
    if (used.contains(variable.name) || !variables.contains(index)) variables[index] = &variable;
  }
  if (!variables.contains(0) || !variables.at(0)->uniform) fail("binding 0 is no uniform buffer");

  Old old;
  gpu::Dispatch& d = old.dispatch;
  d.params = uniform_bytes(file, *variables.at(0), of);
  gpu::Kernel kernel{.name = name,
                     .bindings = {},
                     .twin = nullptr,
                     .params_bytes = uint32_t(d.params.size()),
                     .constants = {},
                     .refusal = [](const gpu::Constants&) { return std::string_view(); }};
  for (uint32_t index = 1; index <= variables.rbegin()->first; ++index) {
    const auto found = variables.find(index);
    if (found == variables.end()) {
      kernel.bindings.push_back(gpu::in);
      d.bindings.emplace_back();
      continue;
    }
    const OldWgsl::Variable& variable = *found->second;
    if (variable.uniform) fail("binding {} is a second uniform buffer", index);
    kernel.bindings.push_back(variable.written ? gpu::out : gpu::in);
    const OldBinding* means = nullptr;
    const auto declared = [&](const OldBinding& b) {
      constexpr std::string_view short_names[] = {"f>", "h>", "u>"};  // of vec4f and the like
      return variable.type.find(to_string(b.view.type)) != std::string::npos ||
             variable.type.find(short_names[int(b.view.type)]) != std::string::npos;
    };
    for (const OldBinding& b : of.bindings)
      if (names_it(b.names, variable.name) && (!means || (!declared(*means) && declared(b))))
        means = &b;
    if (!means && used.contains(variable.name)) fail("the binding {} is not known", variable.name);
    d.bindings.push_back(means ? means->view : gpu::View{});
    if (means) old.bound.push_back(means);
  }
  kernels.push_back(std::move(kernel));
  d.kernel = &kernels.back();
  d.entry = entry;
  return old;
}

// How an old binding differs from what the new kernel has in its place.
struct Difference {
  std::string text;    // empty where it does not
  int correction = 0;  // that excuses it
};

// An output's elements in the old entry's memory, before and after, and in the new kernel's.
Difference difference(const OldBinding& b, const std::vector<float>& before,
                      const std::vector<float>& got, const std::vector<float>& want,
                      Tolerance tolerance) {
  const auto same_bits = [](float x, float y) {
    return std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y);
  };
  size_t wrong = 0, first = 0, untouched = 0, infinite = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    // Either may be off by the tolerance.
    if (same_bits(got[i], want[i]) || got[i] == want[i] ||
        std::abs(got[i] - want[i]) <= 2 * (tolerance.abs + tolerance.rel * std::abs(want[i])))
      continue;
    if (wrong++ == 0) first = i;
    if (same_bits(got[i], before[i]))
      ++untouched;
    else if (std::isfinite(want[i]) && !std::isfinite(got[i]))
      ++infinite;
  }
  if (!wrong) return {};
  Difference d;
  d.text = untouched == wrong
               ? fmt::format("{} of {} elements were not written", wrong, want.size())
               : fmt::format("{} of {} elements differ; element {} was {}, is {}", wrong,
                             want.size(), first, got[first], want[first]);
  if (untouched && untouched != wrong) d.text += fmt::format("; {} were not written", untouched);
  if (infinite) d.text += fmt::format("; {} are not finite", infinite);
  if (!infinite && (!untouched || b.unwritten)) d.correction = b.correction;
  return d;
}

// Runs both; the memory that an entry writes is as the case made it until then.
std::pair<Before, std::string> run_both(gpu::Device& device, Lab& lab, const MigrationCase& of,
                                        const Old& old) {
  std::vector<std::vector<float>> before;
  for (const OldBinding* b : old.bound)
    before.push_back(b->want ? lab.read(b->view) : std::vector<float>());
  device.submit(device.record(of.work));
  device.submit(device.record(old.dispatch));

  std::vector<std::pair<std::string_view, Difference>> all;
  for (const OldBinding& b : of.bindings) {
    if (&b != &*std::ranges::find(of.bindings, b.names, &OldBinding::names))
      continue;  // a type more
    const auto bound = std::ranges::find_if(
        old.bound, [&](const OldBinding* other) { return other->names == b.names; });
    Difference d;
    if (bound == old.bound.end()) {
      if (b.want) d = {"no such binding", b.unwritten ? b.correction : 0};
    } else {
      const OldBinding& had = **bound;
      if (had.want)
        d = difference(had, before[size_t(bound - old.bound.begin())], lab.read(had.view),
                       lab.read(had.want), of.tolerance);
      if (d.text.empty() && had.view.type != b.view.type)
        d = {fmt::format("was {}, is {}", to_string(had.view.type), to_string(b.view.type)),
             had.correction};
    }
    if (!d.text.empty()) all.emplace_back(b.names.front(), d);
  }
  if (all.empty()) return {Before::equal, ""};
  const auto worst =
      std::ranges::min_element(all, {}, [](const auto& d) { return d.second.correction != 0; });
  const auto& [name, d] = *worst;
  if (!d.correction) return {Before::different, fmt::format("{}: {}", name, d.text)};
  return {Before::corrected,
          fmt::format("{}: {}; {}: {}", d.correction, correction(d.correction), name, d.text)};
}

std::string first_lines(const std::string& text) {
  size_t end = 0;
  for (int i = 0; i < 3 && end != text.npos; ++i) end = text.find('\n', end + (i > 0));
  return text.substr(0, end);
}

}  // namespace

std::string_view to_string(Before before) {
  constexpr std::string_view names[] = {
      "equal",          "corrected",     "different",    "does not compile",
      "not understood", "no such entry", "no such file", "deleted"};
  return names[int(before)];
}

std::vector<Compared> compare_before(const std::filesystem::path& folder,
                                     gpu::DeviceOptions options,
                                     const std::function<void(size_t, size_t)>& progress) {
  if (!is_directory(folder)) fail("{}: no such folder", folder.string());
  std::map<std::string_view, OldWgsl> files;
  std::map<std::string_view, std::string> unreadable;
  for (const Migrated& row : migration()) {
    if (files.contains(row.file)) continue;
    try {
      if (exists(folder / row.file)) files.try_emplace(row.file, folder / row.file);
    } catch (const std::exception& error) {
      unreadable[row.file] = error.what();
    }
  }
  if (files.empty() && unreadable.empty())
    fail("{}: none of the old library's files is here; `mainspring kernels --migration` names them",
         folder.string());

  std::vector<WgslSource> sources(wgsl_sources().begin(), wgsl_sources().end());
  for (const auto& [name, file] : files) sources.push_back({name, file.text()});
  options.sources = sources;
  std::deque<gpu::Kernel> kernels;
  const auto device = gpu::Device::open(options);

  std::vector<Compared> results;
  for (size_t i = 0; i < migration().size(); ++i) {
    const Migrated& row = migration()[i];
    if (progress) progress(i, migration().size());
    const auto add = [&](Before before, std::string detail = "", std::string setting = "") {
      results.push_back({&row, std::move(setting), before, std::move(detail)});
    };
    if (row.kernel == "(deleted)") {
      add(Before::deleted, std::string(row.decision));
      continue;
    }
    if (!files.contains(row.file)) {
      const auto why = unreadable.find(row.file);
      if (why == unreadable.end())
        add(Before::no_file);
      else
        add(Before::not_understood, why->second);
      continue;
    }
    const OldWgsl& file = files.at(row.file);
    Lab lab(*device);
    std::vector<MigrationCase> cases;
    try {
      cases = migration_cases(lab, row);
    } catch (const std::invalid_argument& error) {  // for want of a feature
      add(Before::not_understood, error.what());
      continue;
    }
    for (const MigrationCase& c : cases) {
      std::vector<std::string_view> names = {row.entry};
      names.insert(names.end(), c.entries.begin(), c.entries.end());
      const auto entry =
          std::ranges::find_if(names, [&](std::string_view name) { return file.has_entry(name); });
      if (entry == names.end()) {
        add(Before::no_entry, file.has_entries() ? "" : "the file has no compute entry points",
            c.setting);
        continue;
      }
      try {
        Old old = old_dispatch(file, row.file, *entry, c, kernels);
        if (const auto error = device->compile_error(old.dispatch)) {
          add(Before::does_not_compile, first_lines(*error), c.setting);
          continue;
        }
        old.dispatch.grid = c.grid(file.workgroup_size(*entry));
        const auto [before, detail] = run_both(*device, lab, c, old);
        add(before, detail, c.setting);
      } catch (const std::exception& error) {
        add(Before::not_understood, error.what(), c.setting);
      }
    }
  }
  return results;
}

}  // namespace ms
