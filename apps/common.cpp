// common.cpp: options, the cache folder, output for people.
#include "apps/common.hpp"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>

#include "kernels/kernels.hpp"
#include "kernels/sources.hpp"
#include "text/utf8.hpp"

namespace ms {

namespace {

std::string_view variable(const char* name) {
  const char* value = std::getenv(name);
  return value ? value : "";
}

}  // namespace

std::string read_text(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(file), {});
  if (!file) fail("{} cannot be read: {}", path, std::strerror(errno));
  return text;
}

void add_output_option(CLI::App& command, std::string& format) {
  command.add_option("-o,--output", format, "How to print: text or json")
      ->check(CLI::IsMember({"text", "json"}))
      ->capture_default_str();
}

gpu::DeviceOptions device_options(const GlobalOptions& options) {
  return {.device = options.device,
          .tier = options.tier,
          .fast = options.fast,
          .cache = cache_folder("pipelines"),
          .tuning = cache_folder("tuning"),
          .sources = wgsl_sources()};
}

std::filesystem::path cache_folder(std::string_view name) {
  std::filesystem::path cache = variable("XDG_CACHE_HOME");
  if (!cache.is_absolute()) {  // the XDG specification ignores a relative one
    const std::filesystem::path home = variable("HOME");
    if (!home.is_absolute()) return {};
    cache = home / ".cache";
  }
  return cache / "mainspring" / name;
}

void require_kernels(const std::vector<std::string>& names) {
  for (const std::string& name : names)
    require(std::ranges::find(all_kernels(), name, &gpu::Kernel::name) != all_kernels().end(),
            "there is no kernel \"{}\"; mainspring kernels lists them", name);
}

std::string cpu_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name"))
      return line.substr(std::min(line.size(), line.find(':') + 2));
  return "";
}

std::string styled(Style style, std::string_view text) {
  static const bool plain = !isatty(STDOUT_FILENO) || !variable("NO_COLOR").empty();
  if (plain) return std::string(text);
  const char* code = style == Style::title  ? "1"
                     : style == Style::good ? "32"
                                            : "31";  // bold, green, red
  return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

std::string grouped(uint64_t n) {
  std::string digits = std::to_string(n);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

std::string binary_bytes(uint64_t bytes) {
  constexpr const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
  double n = double(bytes);
  size_t unit = 0;
  for (; n >= 1024 && unit + 1 < std::size(units); ++unit) n /= 1024;
  return unit == 0 ? fmt::format("{} bytes", bytes)
                   : fmt::format("{:.{}f} {}", n, n < 10 ? 1 : 0, units[unit]);
}

void print_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], code_points(row[i]));
  }
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      line.append(widths[i] - code_points(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  }
}

Progress::Progress(std::string task) : task_(std::move(task)), terminal_(isatty(STDERR_FILENO)) {}

Progress::~Progress() { clear(); }

void Progress::operator()(size_t done, size_t all) {
  constexpr size_t places = 30;
  const auto now = std::chrono::steady_clock::now();
  if (done <= last_ || last_ == 0) begin_ = now;  // once more from the beginning
  last_ = done;
  if (!terminal_ || now - begin_ < std::chrono::milliseconds(250)) return;
  shown_ = true;
  const size_t full = all == 0 ? places : places * done / all;
  fmt::print(stderr, "\r\x1b[K{} [{}{}] {}/{}", task_, std::string(full, '='),
             std::string(places - full, ' '), done, all);
  std::fflush(stderr);
}

void Progress::clear() {
  if (shown_) fmt::print(stderr, "\r\x1b[K");
  shown_ = false;
}

}  // namespace ms
