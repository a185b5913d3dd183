// shader.cpp: the two text mechanisms of the kernels: a small prelude and `#import`.
#include "gpu/shader.hpp"

#include <set>

namespace ms::gpu {

namespace {

class Composer {
 public:
  Composer(std::span<const WgslSource> sources, const Variant& variant)
      : sources_(sources), variant_(variant) {}

  // Appends a text, an empty line in place of each `#import`, and then what it imports.
  void paste(std::string_view text) {
    std::vector<std::string_view> imports;
    while (!text.empty()) {
      const size_t end = std::min(text.find('\n'), text.size() - 1) + 1;
      const std::string_view line = text.substr(0, end);
      text.remove_prefix(end);
      constexpr std::string_view mark = "#import ";
      if (!line.starts_with(mark)) {
        body += line;
        continue;
      }
      body += '\n';
      const std::string_view rest = line.substr(mark.size());
      const std::string_view name = rest.substr(0, rest.find_first_of(" \n"));
      if (pasted_.insert(name).second) imports.push_back(name);
    }
    if (!body.ends_with('\n')) body += '\n';
    for (const std::string_view name : imports) paste(find_import(name));
  }

  std::string_view find(std::string_view name) const {
    for (const WgslSource& source : sources_)
      if (source.name == name) return source.text;
    return {};
  }

  std::string body;

 private:
  std::string_view find_import(std::string_view name) const {
    if (const std::string_view text = find(name); !text.empty()) return text;
    for (auto [has, form] : {std::pair{variant_.matrix, ".matrix"},
                             {variant_.subgroup_size != 0, ".fixed"},
                             {variant_.subgroups, ".subgroups"},
                             {true, ".portable"}}) {
      if (const auto text = has ? find(std::string(name) + form) : ""; !text.empty()) return text;
    }
    throw std::invalid_argument(
        fmt::format("#import {0}: there is neither {0}.wgsl nor {0}.portable.wgsl", name));
  }

  std::span<const WgslSource> sources_;
  Variant variant_;
  std::set<std::string_view> pasted_;
};

// A constant as WGSL declares it.
std::string declaration(const Constant& c) {
  switch (c.kind) {
    case 'b':
      return fmt::format("const {}: bool = {};", c.name, c.value != 0);
    case 'f':
      return fmt::format("const {}: f32 = {:#};", c.name, c.value);
    case 'i':
      return fmt::format("const {}: i32 = {};", c.name, int32_t(c.value));
    default:
      return fmt::format("const {}: u32 = {};", c.name, uint32_t(c.value));
  }
}

}  // namespace

std::string compose(std::span<const WgslSource> sources, std::string_view kernel,
                    const Variant& variant, const Constants& constants) {
  Composer composer(sources, variant);
  const std::string_view text = composer.find(kernel);
  require(!text.empty(), "there is no kernel {}.wgsl", kernel);

  // Directives come before every declaration.
  if (variant.subgroups) composer.body += "enable subgroups;\n";
  if (variant.f16) composer.body += "enable f16;\n";
  if (variant.matrix) composer.body += "enable chromium_experimental_subgroup_matrix;\n";
  // Tint cannot prove what subgroup_id makes uniform; naga only warns about the rule's name.
  if (variant.subgroups) composer.body += "diagnostic(off, subgroup_uniformity);\n";
  if (variant.matrix) composer.body += "diagnostic(off, chromium.subgroup_matrix_uniformity);\n";
  if (variant.subgroup_size != 0)
    composer.body += fmt::format("const SUBGROUP_SIZE = {}u;\n", variant.subgroup_size);
  for (const Constant& c : constants)
    if (c.prelude) composer.body += declaration(c) + '\n';
  composer.paste(text);
  return std::move(composer.body);
}

std::string with_constants(std::string module, const Constants& constants) {
  for (const Constant& c : constants) {
    if (c.prelude) continue;
    const size_t before = module.find(fmt::format("\noverride {}:", c.name));
    require(before != module.npos, "the module declares no override {}", c.name);
    const size_t start = before + 1;
    module.replace(start, module.find(';', start) + 1 - start, declaration(c));
  }
  return module;
}

}  // namespace ms::gpu
