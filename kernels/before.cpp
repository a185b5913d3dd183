// before.cpp: reading WGSL files of any style, and running their entry points.
#include "kernels/before.hpp"

#include <algorithm>
#include <charconv>
#include <deque>
#include <fstream>
#include <map>
#include <optional>
#include <regex>
#include <set>
#include <sstream>

#include "kernels/migration_cases.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

struct Variable {
  uint32_t index = 0;
  bool uniform = false, written = false;
  std::string name, type;
};
struct Function {
  std::string attributes, body;
};

// What a WGSL file declares, as far as running one of its entry points needs it.
struct Module {
  std::vector<Variable> variables;
  std::map<std::string, Function> functions;
  std::map<std::string, std::string> values;  // of constants and overrides
  std::map<std::string, std::vector<std::pair<std::string, std::string>>> structs;
};

std::string without_comments(const std::string& text) {
  static const std::regex comment(R"(//[^\n]*|/\*[^*]*\*+(?:[^/*][^*]*\*+)*/)");
  return std::regex_replace(text, comment, " ");
}

template <class Visit>
void each_match(const std::string& text, const std::regex& what, Visit&& visit) {
  for (std::sregex_iterator match(text.begin(), text.end(), what), end; match != end; ++match)
    visit(*match);
}

Module read_module(const std::string& source) {
  const std::string text = without_comments(source);
  Module module;
  static const std::regex variable(
      R"(((?:@\w+\s*\(\s*\w+\s*\)\s*)+)var\s*<([^>]*)>\s*(\w+)\s*:\s*([^;]+);)"),
      index(R"(@binding\s*\(\s*(\d+))"),
      value(R"((?:override|const)\s+(\w+)\s*(?::\s*\w+)?\s*=\s*([^;]+);)"),
      structure(R"(struct\s+(\w+)\s*\{([^}]*)\})"), field(R"((\w+)\s*:\s*([\w<>]+))"),
      function(R"(((?:@\w+(?:\s*\([^()]*\))?\s*)*)\bfn\s+(\w+)\s*\()");
  each_match(text, variable, [&](const std::smatch& match) {
    const std::string attributes = match[1], space = match[2];
    std::smatch number;
    if (!std::regex_search(attributes, number, index)) return;
    module.variables.push_back({uint32_t(std::stoul(number[1])),
                                space.find("uniform") != space.npos,
                                space.find("write") != space.npos, match[3], match[4]});
  });
  each_match(text, value, [&](const std::smatch& match) { module.values[match[1]] = match[2]; });
  each_match(text, structure, [&](const std::smatch& match) {
    auto& fields = module.structs[match[1]];
    each_match(match[2], field,
               [&](const std::smatch& parts) { fields.emplace_back(parts[1], parts[2]); });
  });
  each_match(text, function, [&](const std::smatch& match) {
    const size_t open = text.find('{', size_t(match.position() + match.length()));
    size_t end = open, depth = 0;
    for (; end < text.size(); ++end) {
      if (text[end] == '{') ++depth;
      if (text[end] == '}' && --depth == 0) break;
    }
    if (open != text.npos) module.functions[match[2]] = {match[1], text.substr(open, end - open)};
  });
  return module;
}

// The names that an entry point uses, by itself or through functions.
std::set<std::string> used_names(const Module& module, const std::string& entry) {
  static const std::regex word(R"([A-Za-z_]\w*)");
  std::set<std::string> used;
  std::vector<std::string> open = {entry};
  while (!open.empty()) {
    const std::string body = module.functions.at(open.back()).body;
    open.pop_back();
    each_match(body, word, [&](const std::smatch& match) {
      const std::string name = match[0];
      if (used.insert(name).second && module.functions.contains(name)) open.push_back(name);
    });
  }
  return used;
}

Workgroup workgroup_size(const Module& module, const std::string& entry) {
  static const std::regex attribute(R"(@workgroup_size\s*\(([^)]*)\))");
  Workgroup size = {1, 1, 1};
  std::smatch match;
  const std::string& attributes = module.functions.at(entry).attributes;
  if (!std::regex_search(attributes, match, attribute)) fail("{} is no compute entry point", entry);
  std::istringstream parts{match[1]};
  std::string part;
  for (size_t i = 0; i < 3 && std::getline(parts, part, ','); ++i) {
    std::erase_if(part, [](unsigned char c) { return std::isspace(c); });
    if (part.empty()) continue;
    for (int depth = 0; depth < 8 && module.values.contains(part); ++depth)
      part = module.values.at(part);
    if (std::from_chars(part.data(), part.data() + part.size(), size[i]).ec != std::errc())
      fail("the workgroup size {} of {} is no number", part, entry);
  }
  return size;
}

bool names_it(const std::vector<std::string_view>& names, std::string_view name) {
  return std::ranges::find(names, name) != names.end();
}

std::vector<std::byte> uniform_bytes(const Module& module, const Variable& uniform,
                                     const MigrationCase& of) {
  const auto found = module.structs.find(uniform.type);
  if (found == module.structs.end()) fail("the uniform {} is no struct", uniform.name);
  const auto& fields = found->second;
  std::vector<uint32_t> words;
  for (const auto& [name, type] : fields) {
    if (type != "u32" && type != "f32" && type != "i32")
      fail("the uniform field {} has the type {}", name, type);
    const auto means = std::ranges::find_if(of.fields, [&](const OldField& f) {
      return names_it(f.names, name) &&
             (f.beside.empty() || std::ranges::any_of(fields, [&](const auto& other) {
                return other.first == f.beside;
              }));
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

// A dispatch of an old entry over a case's memory. The kernel is made in `kernels`, which must live
// as long as the device.
gpu::Dispatch old_dispatch(const Module& module, std::string_view file, const std::string& entry,
                           const MigrationCase& of, std::deque<gpu::Kernel>& kernels) {
  const auto used = used_names(module, entry);
  std::map<uint32_t, const Variable*> bound;
  for (const Variable& variable : module.variables)
    if (used.contains(variable.name) || !bound.contains(variable.index))
      bound[variable.index] = &variable;
  if (bound.empty() || !bound.contains(0) || !bound.at(0)->uniform)
    fail("binding 0 is no uniform buffer");

  gpu::Dispatch d;
  d.params = uniform_bytes(module, *bound.at(0), of);
  gpu::Kernel kernel{.name = file,
                     .bindings = {},
                     .twin = nullptr,
                     .params_bytes = uint32_t(d.params.size()),
                     .constants = {},
                     .refusal = [](const gpu::Constants&) { return std::string_view(); }};
  for (uint32_t index = 1; index <= bound.rbegin()->first; ++index) {
    const auto found = bound.find(index);
    if (found == bound.end()) {
      kernel.bindings.push_back(gpu::in);
      d.bindings.emplace_back();
      continue;
    }
    const Variable& variable = *found->second;
    if (variable.uniform) fail("binding {} is a second uniform buffer", index);
    kernel.bindings.push_back(variable.written ? gpu::out : gpu::in);
    const OldBinding* means = nullptr;
    const bool f16 = variable.type.find("f16") != variable.type.npos;
    for (const OldBinding& b : of.bindings)
      if (names_it(b.names, variable.name) &&
          (!means || (means->view.type == gpu::Type::f16) != f16))
        means = &b;
    if (!means && used.contains(variable.name)) fail("the binding {} is not known", variable.name);
    d.bindings.push_back(means ? means->view : gpu::View{});
  }
  kernels.push_back(std::move(kernel));
  d.kernel = &kernels.back();
  d.entry = module.functions.find(entry)->first;
  d.grid = of.grid(workgroup_size(module, entry));
  return d;
}

// Where the old entry's outputs differ from the new ones'; empty when they do not.
std::string difference(Lab& lab, const MigrationCase& of) {
  // Either may be off by the tolerance.
  const Tolerance t{2 * of.tolerance.abs, 2 * of.tolerance.rel};
  for (const OldBinding& b : of.bindings) {
    if (!b.want) continue;
    const auto want = lab.read(b.want), got = lab.read(b.view);
    size_t wrong = 0, first = 0;
    for (size_t i = 0; i < want.size(); ++i) {
      const bool same =
          got[i] == want[i] || std::abs(got[i] - want[i]) <= t.abs + t.rel * std::abs(want[i]);
      if (!same && wrong++ == 0) first = i;
    }
    if (wrong)
      return fmt::format("{}: {} of {} elements differ; element {} was {}, is {}", b.names.front(),
                         wrong, want.size(), first, got[first], want[first]);
  }
  return "";
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
  std::map<std::string_view, std::string> texts;
  std::map<std::string_view, Module> modules;
  for (const Migrated& row : migration()) {
    std::ifstream stream(folder / row.file);
    if (!stream || texts.contains(row.file)) continue;
    texts[row.file] = std::string(std::istreambuf_iterator<char>(stream), {});
    modules[row.file] = read_module(texts[row.file]);
  }
  if (texts.empty())
    fail("{}: none of the old library's files is here; `mainspring kernels --migration` names them",
         folder.string());

  std::vector<WgslSource> sources(wgsl_sources().begin(), wgsl_sources().end());
  for (const auto& [file, text] : texts) sources.push_back({file, text});
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
    if (!texts.contains(row.file)) {
      add(Before::no_file);
      continue;
    }
    const Module& module = modules.at(row.file);
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
      const auto entry = std::ranges::find_if(names, [&](std::string_view name) {
        return module.functions.contains(std::string(name));
      });
      if (entry == names.end()) {
        add(Before::no_entry, "", c.setting);
        continue;
      }
      try {
        device->submit(device->record(c.work));
        const gpu::Dispatch old = old_dispatch(module, row.file, std::string(*entry), c, kernels);
        if (const auto error = device->compile_error(old)) {
          add(Before::does_not_compile, first_lines(*error), c.setting);
          continue;
        }
        device->submit(device->record(old));
        const std::string differs = difference(lab, c);
        if (differs.empty())
          add(Before::equal, "", c.setting);
        else if (c.correction)
          add(Before::corrected,
              fmt::format("{}: {}; {}", c.correction, correction(c.correction), differs),
              c.setting);
        else
          add(Before::different, differs, c.setting);
      } catch (const std::exception& error) {
        add(Before::not_understood, error.what(), c.setting);
      }
    }
  }
  return results;
}

}  // namespace ms
