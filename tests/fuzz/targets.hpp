// targets.hpp: the readers of what strangers wrote, as functions of bytes: for libFuzzer
// (tools/fuzz) and, over the corpus and changes of it, for fuzz_test.cpp.
#pragma once
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ms {

struct FuzzTarget {
  std::string_view name;
  // Ends, and with an Error at most; the caller takes that.
  void (*run)(std::string_view bytes);
  std::vector<std::string> (*made)();  // inputs that builders make
};

std::span<const FuzzTarget> fuzz_targets();
// Throws std::invalid_argument that lists them.
const FuzzTarget& fuzz_target(std::string_view name);
// What it is to begin with: what is made, and the files of corpus/NAME beside this one.
std::vector<std::string> fuzz_inputs(const FuzzTarget& target);
// Runs it. Whatever is thrown but an Error, is not caught.
void fuzz(const FuzzTarget& target, std::string_view bytes);

}  // namespace ms
