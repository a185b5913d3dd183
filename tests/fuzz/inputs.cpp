// inputs.cpp: writes what a target begins with into a folder, a file each.
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "tests/fuzz/targets.hpp"

int main(int count, char** arguments) try {
  if (count != 3) {
    std::fputs("usage: fuzz_inputs TARGET FOLDER\n", stderr);
    return 2;
  }
  const std::filesystem::path folder = arguments[2];
  std::filesystem::create_directories(folder);
  size_t number = 0;
  for (const std::string& bytes : ms::fuzz_inputs(ms::fuzz_target(arguments[1])))
    std::ofstream(folder / ("input" + std::to_string(number++)), std::ios::binary) << bytes;
} catch (const std::exception& error) {
  std::fprintf(stderr, "fuzz_inputs: %s\n", error.what());
  return 1;
}
