// kernel_docs.cpp: Markdown from the texts of the rooms, their declared constants and the migration
// table.
#include "apps/kernel_docs.hpp"

#include <algorithm>

#include "gpu/shader.hpp"
#include "kernels/kernels.hpp"
#include "kernels/lab.hpp"
#include "kernels/migration.hpp"
#include "kernels/room.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

// Text as Markdown shows it, inside tables, too.
std::string plain(std::string_view text) {
  const auto is_blank = [&](size_t i) { return i >= text.size() || text[i] == ' '; };
  std::string result;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool emphasis = text[i] == '*' && !(is_blank(i - 1) && is_blank(i + 1));
    const bool tag = text[i] == '<' && !is_blank(i + 1) && text[i + 1] != '=';
    if (text[i] == '|' || emphasis || tag) result += '\\';
    result += text[i];
  }
  return result;
}

std::string code(std::string_view text) { return text.empty() ? "" : fmt::format("`{}`", text); }

std::string settings(const std::vector<std::pair<std::string_view, std::string_view>>& pairs) {
  std::string text;
  for (const auto& [name, value] : pairs)
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  std::ranges::replace(text, '|', '/');  // inside code, nothing else keeps a table whole
  return code(text);
}

void add_overrides(std::string& page, const gpu::Kernel& kernel, const Room& room) {
  if (kernel.constants.empty()) {
    page += "No overrides.\n\n";
    return;
  }
  page += "| override | type | default | may be | tested | |\n|---|---|---|---|---|---|\n";
  for (const gpu::ConstantInfo& info : kernel.constants) {
    const auto declared = std::ranges::find(room.overrides, info.fallback.name, &Declared::name);
    const std::string comment = info.fallback.prelude ? "a constant of the prelude: sizes registers"
                                : declared != room.overrides.end() ? plain(declared->comment)
                                                                   : "";
    page += fmt::format("| {} | {} | {} | {} | {} | {} |\n", code(info.fallback.name),
                        type_name(info.fallback), value_text(info.fallback), info.legal(),
                        values_text(info.fallback, info.values), comment);
  }
  const auto refused = refusals(kernel);
  const size_t all = combinations(kernel), valid = gpu::every(kernel, true).size();
  page += fmt::format("\n{} {} combinations of the tested values are accepted{}\n",
                      valid == all ? "All" : fmt::format("{} of", valid), all,
                      refused.empty() ? "." : "; refused are:\n");
  for (const Refusal& refusal : refused) {
    std::string where;
    for (const auto& [name, values] : refusal.where) {
      std::string list;
      for (const gpu::Constant& value : values)
        list += (list.empty() ? "" : ",") + value_text(value);
      where += fmt::format("{}{}={}", where.empty() ? "" : " ", name, list);
    }
    page += fmt::format("- {}: {}\n", code(where), plain(refusal.reason));
  }
  page += '\n';
}

std::string tolerance_text(Tolerance t) {
  if (t == exact) return "equal to the twin, bit for bit";
  return fmt::format("within {:.2g} + {:.2g} |twin|", t.abs, t.rel);
}

// Which module a device takes, and how close the cases come to the twin.
void add_conditions(std::string& page, const gpu::Kernel& kernel, const Tolerances& tolerances) {
  page += "Variants: ";
  if (!uses_subgroups(kernel))
    page += "the same for every device.";
  else if (std::ranges::any_of(kernel.constants, needs_subgroups))
    page += "portable, which refuses USE_SUBGROUPS=true; subgroups, on devices with that feature.";
  else
    page += "portable; subgroups, on devices with that feature.";
  const bool alike = tolerances.widest == tolerances.usual;
  page += fmt::format("\nCases: {}{}", alike ? "" : "most are ", tolerance_text(tolerances.usual));
  if (!alike) page += fmt::format("; at the widest, {}", tolerance_text(tolerances.widest));
  page += ".\n\n";
}

void add_interface(std::string& page, const Room& room) {
  page += "| binding | name | access | type | |\n|---|---|---|---|---|\n";
  for (const DeclaredBinding& binding : room.bindings)
    page += fmt::format("| {} | {} | {} | {} | {} |\n", binding.index, code(binding.name),
                        binding.space, code(binding.type), plain(binding.comment));
  page += "\n| parameter | type | |\n|---|---|---|\n";
  for (const Declared& field : room.params)
    page += fmt::format("| {} | {} | {} |\n", code(field.name), field.type, plain(field.comment));
  page += '\n';
}

void add_replaced(std::string& page, const gpu::Kernel& kernel) {
  bool any = false;
  for (const Migrated& row : migration()) {
    if (row.kernel != kernel.name) continue;
    if (!std::exchange(any, true))
      page += "| replaces | entry | by overrides | by parameters | now |\n|---|---|---|---|---|\n";
    page += fmt::format("| {} | {} | {} | {} | {} |\n", code(row.file), code(row.entry),
                        settings(row.overrides), settings(row.params), plain(row.decision));
  }
  if (any) page += '\n';
}

}  // namespace

std::string kernel_docs(gpu::Device& device) {
  std::string page =
      "# The kernels\n\n"
      "Made by `mainspring kernels --docs > docs/kernels.md`; `./check` compares. Each kernel is a "
      "folder of kernels/; its "
      "WGSL file has one entry point, `main`, specialised by override constants; but moe_gather, "
      "which has four. An override may be what its column says: of those that change no result "
      "every power of two from the "
      "least to the largest tested value.\n\n";
  for (const gpu::Kernel* kernel : all_kernels())
    page += fmt::format("- [{0}](#{0})\n", kernel->name);
  for (const gpu::Kernel* kernel : all_kernels()) {
    const Room room =
        read_room(std::ranges::find(wgsl_sources(), kernel->name, &WgslSource::name)->text);
    page += fmt::format("\n## {}\n\n{}\n\n", kernel->name, plain(room.summary));
    if (!room.header.empty()) page += plain(room.header) + "\n";
    if (kernel->entries.size() > 1)
      page += fmt::format("Entry points: `{}`.\n\n", fmt::join(kernel->entries, "`, `"));
    add_conditions(page, *kernel, tolerances(kernel_test(kernel->name), device));
    add_overrides(page, *kernel, room);
    add_interface(page, room);
    add_replaced(page, *kernel);
    page.erase(page.find_last_not_of('\n') + 1);
    page += '\n';
  }
  return page;
}

}  // namespace ms
