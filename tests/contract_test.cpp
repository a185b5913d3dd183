// contract_test.cpp: what every kernel room must keep: that its WGSL and its C++ say the same, and
// that its module compiles everywhere. A new folder of kernels/ joins by itself.
#include <gtest/gtest.h>

#include <cctype>
#include <regex>

#include "base/test_files.hpp"
#include "kernels/kernels.hpp"
#include "kernels/migration.hpp"
#include "kernels/room.hpp"
#include "tests/contract_tools.hpp"

namespace ms {

namespace {

// The preludes that modules are made with: without any feature, and with each that kernels use.
const gpu::Variant portable = {}, featured = {.subgroups = true, .f16 = true, .subgroup_size = 32},
                   matrices = {.subgroups = true, .f16 = true, .matrix = true};

// A WGSL literal's value; nothing when the text is none of this type.
std::optional<double> literal(std::string text, const gpu::Constant& of) {
  if (of.kind == 'b')
    return text == "true"    ? std::optional(1.0)
           : text == "false" ? std::optional(0.0)
                             : std::nullopt;
  if (!text.empty() && text.back() == of.kind) text.pop_back();  // 1u, 1i, 1f
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  const bool whole = value == double(int64_t(value)) && text.find('.') == text.npos;
  if (text.empty() || *end || (of.kind != 'f' && !whole) || (of.kind == 'u' && value < 0))
    return std::nullopt;
  return value;
}

class Contract : public testing::TestWithParam<const gpu::Kernel*> {
 protected:
  const gpu::Kernel& kernel = *GetParam();
  std::string_view wgsl = std::ranges::find(wgsl_sources(), kernel.name, &WgslSource::name)->text;
  Room room = read_room(wgsl);
  std::string composed = compose(wgsl_sources(), kernel.name, {}, defaults(kernel));

  // The preludes that make a difference to it.
  std::vector<gpu::Variant> variants() const {
    std::vector<gpu::Variant> all = {portable, featured};
    if (wgsl.find("#import matrix") != wgsl.npos) all.push_back(matrices);
    return all;
  }
};

TEST_P(Contract, has_the_entry_points_that_the_host_names_and_that_is_main_but_in_moe_gather) {
  const std::vector<std::string> named(kernel.entries.begin(), kernel.entries.end());
  EXPECT_EQ(read_room(composed).entries, named);
  if (kernel.name != "moe_gather") {
    EXPECT_EQ(named, std::vector<std::string>{"main"});
  }
}

TEST_P(Contract, declares_the_overrides_that_the_host_visits) {
  std::vector<gpu::Constant> visited;
  for (const gpu::ConstantInfo& info : kernel.constants)
    if (!info.fallback.prelude) visited.push_back(info.fallback);
  EXPECT_EQ(read_room(composed).overrides.size(), room.overrides.size())
      << "an import declares overrides";
  ASSERT_EQ(room.overrides.size(), visited.size());
  for (size_t i = 0; i < visited.size(); ++i) {
    const Declared& declared = room.overrides[i];
    EXPECT_EQ(declared.name, visited[i].name);
    EXPECT_EQ(declared.type, type_name(visited[i])) << declared.name;
    EXPECT_EQ(literal(declared.value, visited[i]), visited[i].value)
        << declared.name << " = " << declared.value;
  }
}

TEST_P(Contract, tests_at_least_two_values_of_each_constant_and_its_default) {
  EXPECT_EQ(kernel.refusal(defaults(kernel)), "") << "the defaults are refused";
  std::map<size_t, std::set<double>> valid;
  for (const gpu::Constants& constants : gpu::every(kernel))
    for (size_t i = 0; i < constants.size(); ++i) valid[i].insert(constants[i].value);
  for (size_t i = 0; i < kernel.constants.size(); ++i) {
    const gpu::Constant& fallback = kernel.constants[i].fallback;
    const std::vector<double>& values = kernel.constants[i].values;
    EXPECT_GE(values.size(), 2u) << fallback.name;
    EXPECT_NE(std::ranges::find(values, fallback.value), values.end())
        << fallback.name << "'s default is not tested";
    EXPECT_EQ(valid[i].size(), values.size())
        << fallback.name << ": a value is listed twice, or every combination with it is refused";
    EXPECT_TRUE(std::ranges::all_of(fallback.name, [](char c) {
      return std::isupper(c) || std::isdigit(c) || c == '_';
    })) << fallback.name;
    EXPECT_NE(composed.find(fallback.name), composed.npos) << fallback.name;
  }
}

TEST_P(Contract, binds_what_the_host_binds) {
  EXPECT_EQ(read_room(composed).bindings.size(), room.bindings.size())
      << "an import declares bindings";
  ASSERT_EQ(room.bindings.size(), kernel.bindings.size() + 1);
  for (size_t i = 0; i < room.bindings.size(); ++i) {
    const DeclaredBinding& binding = room.bindings[i];
    EXPECT_EQ(binding.index, i) << binding.name;
    const std::string_view space = i == 0                              ? "uniform"
                                   : kernel.bindings[i - 1] == gpu::in ? "storage, read"
                                                                       : "storage, read_write";
    EXPECT_EQ(binding.space, space) << binding.name;
    if (i > 0) {
      EXPECT_NE(binding.comment, "") << binding.name << " says nothing of its shape";
    }
  }
  EXPECT_EQ(room.bindings[0].type, "Params");
  // fused_layer reads four matrices: for devices with more than what WebGPU promises.
  const size_t most = kernel.name == "fused_layer" ? FusedLayer::storage_buffers : 8;
  EXPECT_LE(kernel.bindings.size(), most) << "more storage buffers than WebGPU promises";
}

TEST_P(Contract, lays_out_params_as_the_host_does) {
  const std::string path = fmt::format("{0}/kernels/{1}/{1}.hpp", MS_SOURCE_DIR, kernel.name);
  const auto host = read_params(read_file(path));
  ASSERT_FALSE(host.empty()) << path;
  ASSERT_EQ(room.params.size(), host.size());
  for (size_t i = 0; i < host.size(); ++i) {
    EXPECT_EQ(room.params[i].name, host[i].name) << "field " << i;
    EXPECT_EQ(room.params[i].type, host[i].type) << host[i].name;
  }
  EXPECT_EQ(4 * host.size(), kernel.params_bytes);  // every field has four bytes, in both languages
}

TEST_P(Contract, begins_with_what_it_computes_and_what_it_replaces) {
  EXPECT_EQ(room.file, fmt::format("{}.wgsl", kernel.name));
  EXPECT_NE(room.summary, "");
  EXPECT_NE(header_rule(room, "Grid"), "") << "the comment at the top does not say \"Grid: …\"";
  std::string lower = room.header;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  EXPECT_NE(lower.find("replace"), lower.npos)
      << "the comment at the top names what it replaces, or says why there is nothing to replace";
  for (const Migrated& row : migration())
    if (row.kernel == kernel.name) {
      EXPECT_NE(room.header.find(row.file), std::string::npos)
          << "the comment at the top does not name " << row.file;
    }
}

// Tint sets a variable without an initialiser once a function, not once an iteration of its loop.
TEST_P(Contract, initialises_every_variable_of_its_functions) {
  static const std::regex bare(R"(\bvar +\w+ *:[^=;]*;)");
  const std::sregex_iterator end;
  for (std::sregex_iterator found(composed.begin(), composed.end(), bare); found != end; ++found)
    ADD_FAILURE() << found->str() << " has no initialiser";
}

// As SPIR-V, a module with overrides set is the one with constants in their place.
TEST_P(Contract, compiles_in_tint_and_an_override_costs_what_a_constant_does) {
  const auto tint = find_program("tint");
  if (!tint) GTEST_SKIP() << "no tint: tools/setup fetches it with Dawn";
  const Passed passed(kernel, "overrides_and_constants", {*tint});
  if (passed) return;
  const Modules modules(kernel);
  const auto compare = [&](const gpu::Variant& variant, const gpu::Constants& constants) {
    for (const std::string_view entry : kernel.entries)
      ASSERT_EQ(modules.assembly(*tint, variant, constants, entry, false),
                modules.assembly(*tint, variant, constants, entry, true))
          << kernel.name << "." << entry << " for " << to_string(variant) << " with "
          << to_string(constants);
  };
  compare({.subgroups = true}, defaults(kernel));
  for (const gpu::Variant& variant : variants())
    for (const gpu::Constants& constants :
         gpu::every(kernel, std::getenv("MAINSPRING_FULL") != nullptr))
      compare(variant, constants);
  if (!HasFailure()) passed.record();
}

// An override that changes nothing is dead. Names and ids apart, that shows in the optimised
// module.
TEST_P(Contract, each_constant_changes_the_module) {
  const auto tint = find_program("tint"), optimiser = find_program("spirv-opt");
  if (!tint || !optimiser) GTEST_SKIP() << "no tint or no spirv-opt: tools/setup installs them";
  const Passed passed(kernel, "each_constant_changes_the_module", {*tint, *optimiser});
  if (passed) return;
  const Modules modules(kernel);
  const auto all = nearest_first(kernel);
  const std::set<gpu::Constants> valid(all.begin(), all.end());
  std::map<std::pair<gpu::Variant, gpu::Constants>, std::string> made;
  const auto module = [&](const gpu::Variant& variant,
                          const gpu::Constants& constants) -> const std::string& {
    std::string& slot = made[{variant, constants}];
    if (!slot.empty()) return slot;
    std::string why;
    const auto spirv = modules.spirv(*tint, variant, constants, kernel.entries.front(), why);
    if (!spirv && valid.contains(constants)) fail("{}", why);
    if (!spirv) return slot;
    const std::string optimised = modules.file("optimised.spv");
    const Ran ran = run(fmt::format("{} --strip-debug -O {} -o {}", *optimiser, *spirv, optimised));
    if (ran.code != 0) fail("{}: spirv-opt: {}", kernel.name, ran.output);
    return slot = read_file(optimised);
  };
  // With `alone`, beside another that is valid; without, beside one that at least compiles: for a
  // constant each of whose values is valid with other values of the others.
  const auto changes = [&](size_t i, bool alone) {
    for (const gpu::Variant& variant : variants())
      for (const gpu::Constants& constants : all)
        for (const double value : kernel.constants[i].values) {
          gpu::Constants other = constants;
          other[i].value = value;
          if (value == constants[i].value || valid.contains(other) != alone) continue;
          const std::string& changed = module(variant, other);
          if (!changed.empty() && changed != module(variant, constants)) return true;
        }
    return false;
  };
  for (size_t i = 0; i < kernel.constants.size(); ++i)
    EXPECT_TRUE(changes(i, true) || changes(i, false))
        << kernel.constants[i].fallback.name << " changes nothing: it is dead";
  if (!HasFailure()) passed.record();
}

TEST_P(Contract, compiles_in_naga_for_metal_and_direct3d) {
  constexpr std::string_view version = "30.0.1";
  const auto naga = find_program("naga");
  if (!naga) GTEST_SKIP() << "no naga: tools/setup --checks installs it";
  const std::string found = run(*naga + " --version").output;
  if (found.substr(0, found.find('\n')) != version)
    GTEST_SKIP() << *naga << " is version " << found << "tools/setup --checks installs " << version;
  const Passed passed(kernel, "compiles_in_naga_for_metal_and_direct3d", {*naga});
  if (passed) return;
  const Modules modules(kernel);
  for (const gpu::Variant& variant : {portable, featured})
    for (const gpu::Constants& constants : gpu::every(kernel)) {
      // naga has the subgroup functions, but not these two lines.
      const std::string module =
          modules.write(variant, constants, {"enable subgroups;", "diagnostic("});
      const std::string overrides = Modules::settings(constants);
      const Ran ran = run(fmt::format("{} --metal-version 3.1 --shader-model 60 {} {} {} {}", *naga,
                                      overrides.empty() ? "" : "--override " + overrides, module,
                                      modules.file("module.metal"), modules.file("module.hlsl")));
      EXPECT_EQ(ran.code, 0) << kernel.name << " for " << to_string(variant) << " with "
                             << to_string(constants) << "\n"
                             << ran.output;
    }
  if (!HasFailure()) passed.record();
}

INSTANTIATE_TEST_SUITE_P(Rooms, Contract,
                         testing::ValuesIn(all_kernels().begin(), all_kernels().end()),
                         [](const auto& info) { return std::string(info.param->name); });

// The table of what was replaced.

const gpu::Kernel* find_kernel(std::string_view name) {
  const auto found = std::ranges::find(all_kernels(), name, &gpu::Kernel::name);
  return found == all_kernels().end() ? nullptr : *found;
}

constexpr std::string_view deleted = "(deleted)";

TEST(Migration, names_kernels_overrides_and_parameters_that_exist) {
  ASSERT_FALSE(migration().empty());
  for (const Migrated& row : migration()) {
    SCOPED_TRACE(fmt::format("{} {}", row.file, row.entry));
    if (row.kernel == deleted) {
      EXPECT_NE(row.decision, "") << "deleted without a reason";
      continue;
    }
    const gpu::Kernel* kernel = find_kernel(row.kernel);
    if (!kernel) {
      ADD_FAILURE() << "there is no kernel " << row.kernel;
      continue;
    }
    // A kernel of several entries keeps the old ones' names.
    if (kernel->entries.size() > 1) {
      EXPECT_NE(std::ranges::find(kernel->entries, row.entry), kernel->entries.end())
          << row.kernel << " has no entry " << row.entry;
    }
    gpu::Constants constants = defaults(*kernel);
    for (const auto& [name, value] : row.overrides) {
      const auto constant = std::ranges::find(constants, name, &gpu::Constant::name);
      if (constant == constants.end()) {
        ADD_FAILURE() << row.kernel << " has no override " << name;
        continue;
      }
      const auto number = literal(std::string(value), *constant);
      EXPECT_TRUE(number) << name << "=" << value << " is no " << type_name(*constant);
      constant->value = number.value_or(constant->value);
    }
    EXPECT_EQ(kernel->refusal(constants), "") << to_string(constants);
    const Room room =
        read_room(std::ranges::find(wgsl_sources(), row.kernel, &WgslSource::name)->text);
    // A parameter that has another name now stands so in the last column: "query_len is rows".
    for (const auto& [name, value] : row.params)
      EXPECT_TRUE(std::ranges::any_of(
          room.params,
          [&](const Declared& field) {
            return field.name == name || row.decision.find(fmt::format(
                                             "{} is {}", name, field.name)) != row.decision.npos;
          }))
          << row.kernel << " has no parameter " << name;
  }
}

TEST(Migration, has_each_old_entry_once) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const Migrated& row : migration())
    EXPECT_TRUE(seen.emplace(row.file, row.entry).second) << row.file << " " << row.entry;
}

TEST(Migration, selects_by_what_the_acceptance_list_says) {
  const auto path = shared_folder() / "kernels" / "legacy_entries.tsv";
  if (!exists(path)) GTEST_SKIP() << "no " << path << "; MAINSPRING_SHARED names its folder";
  const std::string text = read_file(path);  // the rows point into it
  const auto accepted = read_migration(text);
  for (const Migrated& row : migration()) {
    const auto same = std::ranges::find_if(accepted, [&](const Migrated& other) {
      return row.file == other.file && row.entry == other.entry;
    });
    ASSERT_NE(same, accepted.end()) << row.file << " " << row.entry;
    EXPECT_EQ(row.kernel, same->kernel) << row.file << " " << row.entry;
    EXPECT_EQ(row.overrides, same->overrides) << row.file << " " << row.entry;
    EXPECT_EQ(row.params, same->params) << row.file << " " << row.entry;
  }
}

TEST(Migration, a_row_of_too_few_columns_is_refused_by_its_line) {
  EXPECT_THROW(read_migration("a\tb\nc\td\n"), std::invalid_argument);
  EXPECT_THROW(read_migration("head\n1\t2\t3\t4\tNAME\t\t\t\n"), std::invalid_argument);
}

// How rooms are read.

TEST(Room, is_read_as_it_is_written) {
  const Room room = read_room(R"(// demo.wgsl: y = x, twice.
//
// Grid: one. Replaces nothing.

override FLAG: bool = false;  // on or off
override SIZE: u32 = 64;
// override COMMENTED: u32 = 1;
struct Params { rows: u32, eps: f32 }
@group(0) @binding(0) var<uniform>             params: Params;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;  // [rows] f32
// @compute fn not_this() {}
@compute @workgroup_size(SIZE)
fn main(at: Lane) {}
)");
  EXPECT_EQ(room.file, "demo.wgsl");
  EXPECT_EQ(room.summary, "y = x, twice.");
  EXPECT_EQ(room.header, "Grid: one. Replaces nothing.\n");
  EXPECT_EQ(header_rule(room, "Grid"), "one");
  EXPECT_EQ(room.overrides, (std::vector<Declared>{{"FLAG", "bool", "false", "on or off"},
                                                   {"SIZE", "u32", "64", ""}}));
  EXPECT_EQ(room.params, (std::vector<Declared>{{"rows", "u32", "", ""}, {"eps", "f32", "", ""}}));
  ASSERT_EQ(room.bindings.size(), 2u);
  EXPECT_EQ(room.bindings[1].space, "storage, read_write");
  EXPECT_EQ(room.bindings[1].type, "array<vec4<f32>>");
  EXPECT_EQ(room.entries, std::vector<std::string>{"main"});
}

TEST(Room, params_of_the_host_are_read_field_by_field) {
  const auto fields = read_params(
      "struct A {\n  struct Params {\n    uint32_t rows, cols;  // of x\n    float eps = 1e-6f;\n  "
      "  int32_t shift;\n  };\n};");
  EXPECT_EQ(fields, (std::vector<Declared>{{"rows", "u32", "", ""},
                                           {"cols", "u32", "", ""},
                                           {"eps", "f32", "", ""},
                                           {"shift", "i32", "", ""}}));
  EXPECT_THROW(read_params("struct Params { double x; };"), std::invalid_argument);
}

struct Demo {
  struct Overrides {
    bool a = false, b = false, c = false;
    uint32_t type = 0;
    void visit(auto&& v) {
      v("A", a, {false, true});
      v("B", b, {false, true});
      v("C", c, {false, true});
      v("TYPE", type, {0u, 1u, 2u, 3u});
    }
    std::string_view refusal() const {
      if (a && b) return "A with B";
      if (b && type < 2) return "B wants another type";
      return "";
    }
  };
  struct Params {
    uint32_t n;
  };
};

TEST(Room, what_is_refused_is_told_without_what_does_not_matter) {
  const gpu::Kernel demo = gpu::kernel<Demo>("demo", {}, nullptr);
  EXPECT_EQ(combinations(demo), 32u);
  const auto told = refusals(demo);
  std::vector<std::string> lines;
  for (const Refusal& refusal : told) {
    std::string line;
    for (const auto& [name, values] : refusal.where) {
      line += fmt::format("{}=", name);
      for (const gpu::Constant& value : values) line += fmt::format("{},", value.value);
      line += ' ';
    }
    lines.push_back(line + std::string(refusal.reason));
  }
  EXPECT_EQ(lines, (std::vector<std::string>{"B=1, TYPE=0,1, B wants another type",
                                             "A=1, B=1, A with B"}));
}

}  // namespace

}  // namespace ms
