// contract_tools.hpp: for the contract test: shader compilers as programs, and which combinations
// of constants to send through them.
#pragma once
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "base/test_files.hpp"
#include "gpu/shader.hpp"
#include "kernels/sources.hpp"

namespace ms {

// Where a program is: in .deps, or else on the PATH; nothing when it is nowhere.
inline std::optional<std::string> find_program(const std::string& name) {
  std::string folders = MS_SOURCE_DIR "/.deps/dawn/bin:" MS_SOURCE_DIR "/.deps/bin";
  if (const char* path = std::getenv("PATH")) folders += std::string(":") + path;
  for (size_t start = 0; start <= folders.size();) {
    const size_t end = std::min(folders.find(':', start), folders.size());
    const std::string program = folders.substr(start, end - start) + "/" + name;
    if (access(program.c_str(), X_OK) == 0) return program;
    start = end + 1;
  }
  return std::nullopt;
}

struct Ran {
  int code = -1;  // of its exit; -1 when it crashed
  std::string output;
};
inline Ran run(const std::string& command) {
  Ran result;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (!pipe) fail("cannot run {}", command);
  std::array<char, 4096> part;
  while (const size_t n = fread(part.data(), 1, part.size(), pipe))
    result.output.append(part.data(), n);
  const int status = pclose(pipe);
  if (WIFEXITED(status)) result.code = WEXITSTATUS(status);
  return result;
}

// Whether a test of a kernel has passed before with the same module texts, constants, programs and
// test: modules go through compilers thousands of times, and most change seldom.
class Passed {
 public:
  Passed(const gpu::Kernel& kernel, std::string_view test,
         std::initializer_list<std::string> programs)
      : file_(std::filesystem::path(MS_BINARY_DIR) / "passed" /
              fmt::format("{}.{}", kernel.name, test)) {
    std::string all;
    for (const gpu::Variant& variant : {gpu::Variant{},
                                        {.subgroups = true, .f16 = true, .subgroup_size = 32},
                                        {.subgroups = true, .f16 = true, .matrix = true}})
      all += compose(wgsl_sources(), kernel.name, variant, {});
    for (const gpu::Constants& constants : gpu::every(kernel, true)) all += to_string(constants);
    for (const std::string& program : programs)
      all += fmt::format("{} {}", program, std::filesystem::file_size(program));
    for (const char* file : {"contract_test.cpp", "contract_tools.hpp"})
      all += read_file(std::filesystem::path(MS_SOURCE_DIR) / "tests" / file);
    if (std::getenv("MAINSPRING_FULL")) all += "full";
    key_ = fmt::format("{:016x}", std::hash<std::string>()(all));
  }
  explicit operator bool() const { return exists(file_) && read_file(file_) == key_; }
  void record() const {
    create_directories(file_.parent_path());
    std::ofstream(file_) << key_;
  }

 private:
  std::filesystem::path file_;
  std::string key_;
};

// A folder of one kernel's modules, removed with its owner.
class Modules {
 public:
  explicit Modules(const gpu::Kernel& kernel) : kernel_(kernel) {}

  std::string file(const std::string& name) const { return (folder_.path() / name).string(); }

  // Writes the text of a module, without the lines that start as one of these.
  std::string write(const gpu::Variant& variant, const gpu::Constants& constants,
                    std::initializer_list<std::string_view> without = {},
                    bool as_constants = false) const {
    std::string text = compose(wgsl_sources(), kernel_.name, variant, constants);
    if (as_constants) text = gpu::with_constants(std::move(text), constants);
    const std::string path = file("module.wgsl");
    std::ofstream stream(path);
    for (size_t start = 0; start < text.size();) {
      const size_t end = std::min(text.find('\n', start), text.size() - 1) + 1;
      const std::string_view line = std::string_view(text).substr(start, end - start);
      if (std::ranges::none_of(without,
                               [&](std::string_view mark) { return line.starts_with(mark); }))
        stream << line;
      start = end;
    }
    if (!stream.flush()) fail("cannot write {}", path);
    return path;
  }

  // "A=1,B=0.5", of overrides; the prelude's constants are in the text.
  static std::string settings(const gpu::Constants& constants) {
    std::string text;
    for (const gpu::Constant& c : constants)
      if (!c.prelude) text += fmt::format("{}{}={}", text.empty() ? "" : ",", c.name, c.value);
    return text;
  }

  // The module as Tint's SPIR-V assembly, without names, its ids numbered as they appear; with the
  // overrides set, or with constants in their place.
  std::string assembly(const std::string& tint, const gpu::Variant& variant,
                       const gpu::Constants& constants, std::string_view entry,
                       bool as_constants) const {
    const std::string module = write(variant, constants, {}, as_constants);
    const std::string overrides = as_constants ? "" : settings(constants);
    const Ran ran = run(fmt::format("{} --format spvasm --entry-point {} {} {}", tint, entry,
                                    overrides.empty() ? "" : "--overrides " + overrides, module));
    if (ran.code != 0)
      fail("{}.{} with {}: {}", kernel_.name, entry, to_string(constants), ran.output);
    std::string text;
    std::map<std::string_view, size_t> ids;
    for (std::string_view rest = ran.output; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(line.size() + 1, rest.size()));
      if (line.find(" OpName ") != line.npos || line.find(" OpMemberName ") != line.npos) continue;
      for (size_t i = 0; i < line.size();) {
        size_t end = i + 1;
        if (line[i] == '%') {
          while (end < line.size() && (std::isalnum(line[end]) || line[end] == '_')) ++end;
          const auto id = ids.emplace(line.substr(i, end - i), ids.size()).first;
          text += fmt::format("%{}", id->second);
        } else {
          text += line[i];
        }
        i = end;
      }
      text += '\n';
    }
    return text;
  }

  // Sends an entry of a module through Tint to SPIR-V; the file, or nothing and why.
  std::optional<std::string> spirv(const std::string& tint, const gpu::Variant& variant,
                                   const gpu::Constants& constants, std::string_view entry,
                                   std::string& why) const {
    const std::string overrides = settings(constants), made = file("module.spv");
    const Ran ran = run(fmt::format("{} --format spirv --entry-point {} -o {} {} {}", tint, entry,
                                    made, overrides.empty() ? "" : "--overrides " + overrides,
                                    write(variant, constants)));
    if (ran.code == 0) return made;
    why = fmt::format("{}.{} for {} with {}: tint ends with {}\n{}", kernel_.name, entry,
                      to_string(variant), to_string(constants), ran.code, ran.output);
    return std::nullopt;
  }

 private:
  const gpu::Kernel& kernel_;
  TemporaryFolder folder_;
};

inline gpu::Constants defaults(const gpu::Kernel& kernel) {
  gpu::Constants result;
  for (const gpu::ConstantInfo& info : kernel.constants) result.push_back(info.fallback);
  return result;
}

// Every valid combination, those with the fewest changes from the defaults first.
inline std::vector<gpu::Constants> nearest_first(const gpu::Kernel& kernel) {
  std::vector<gpu::Constants> all = gpu::every(kernel, true);
  const auto changes = [start = defaults(kernel)](const gpu::Constants& constants) {
    size_t n = 0;
    for (size_t i = 0; i < constants.size(); ++i) n += constants[i].value != start[i].value;
    return n;
  };
  std::ranges::stable_sort(all, {}, changes);
  return all;
}

}  // namespace ms
