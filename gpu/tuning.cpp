// tuning.cpp: reading and writing the tables of tuned constants.
#include "gpu/tuning.hpp"

#include <unistd.h>

#include <charconv>
#include <fstream>

#include "base/error.hpp"
#include "gpu/caps.hpp"

namespace ms::gpu {

std::string to_string(const TunedValues& values) {
  std::string text;
  for (const auto& [name, value] : values)
    text += fmt::format("{}{}={}", text.empty() ? "" : " ", name, value);
  return text;
}

std::filesystem::path tuning_file(const std::filesystem::path& folder, const Caps& caps) {
  std::string name = fmt::format("{} {} {}{}", caps.name, caps.driver, to_string(caps.variant),
                                 caps.robust ? "" : " fast");
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '+') c = '-';
  return folder / (name + ".txt");
}

Tuning load_tuning(const std::filesystem::path& file) {
  Tuning tuning;
  std::ifstream in(file);
  size_t number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    const auto wrong = [&](std::string_view what) {
      fail("{}, line {}: {}; delete the file, or write it anew with `mainspring tune`",
           file.string(), number, what);
    };
    const size_t colon = line.rfind(": ");
    if (colon == std::string::npos) wrong("no \": \" between key and values");
    TunedValues& values = tuning[line.substr(0, colon)];
    for (size_t at = colon + 2; at < line.size();) {
      const size_t end = std::min(line.find(' ', at), line.size()), equals = line.find('=', at);
      uint32_t value = 0;
      const char* const last = line.data() + end;
      const auto number_at = [&] { return std::from_chars(line.data() + equals + 1, last, value); };
      if (equals >= end || equals == at || number_at().ptr != last || number_at().ec != std::errc())
        wrong(fmt::format("\"{}\" is not NAME=NUMBER", line.substr(at, end - at)));
      values[line.substr(at, equals - at)] = value;
      at = end + 1;
    }
  }
  return tuning;
}

void save_tuning(const std::filesystem::path& file, const Tuning& tuning) {
  std::error_code ignored;
  std::filesystem::create_directories(file.parent_path(), ignored);
  const std::filesystem::path aside = fmt::format("{}.{}", file.string(), getpid());
  std::ofstream out(aside);
  for (const auto& [key, values] : tuning) out << key << ": " << to_string(values) << '\n';
  out.close();
  std::error_code error;
  if (out) std::filesystem::rename(aside, file, error);
  if (!out || error) {
    std::filesystem::remove(aside, ignored);
    fail("cannot write {}: {}", file.string(), error ? error.message() : std::strerror(errno));
  }
}

}  // namespace ms::gpu
