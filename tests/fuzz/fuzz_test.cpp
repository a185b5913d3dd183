// fuzz_test.cpp: what libFuzzer runs (tools/fuzz), without it: over the corpus, and over changes of
// it that are the same each time.
#include <gtest/gtest.h>

#include <random>

#include "tests/fuzz/targets.hpp"

namespace ms {
namespace {

std::string changed(std::string bytes, std::mt19937& rng) {
  static const std::string_view words[] = {"\"",
                                           "{",
                                           "}",
                                           "[",
                                           "]",
                                           ",",
                                           ":",
                                           "null",
                                           "-1",
                                           "0",
                                           "18446744073709551615",
                                           "%}",
                                           "{%",
                                           "|",
                                           "\\",
                                           "\n",
                                           "1e999",
                                           "\xff",
                                           "\0\0\0\0\0\0\0\0"};
  for (uint32_t changes = 1 + rng() % 4; changes > 0 && !bytes.empty(); --changes) {
    const size_t at = rng() % bytes.size(), length = 1 + rng() % 8;
    switch (rng() % 6) {
      case 0:
        bytes[at] = char(rng());
        break;
      case 1:
        bytes[at] = char(bytes[at] ^ (1 << rng() % 8));
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:
        bytes.insert(at, bytes.substr(rng() % bytes.size(), length));
        break;
      case 4:
        bytes.insert(at, words[rng() % std::size(words)]);
        break;
      default:
        bytes.replace(at, std::min(length, bytes.size() - at), words[rng() % std::size(words)]);
    }
  }
  return bytes;
}

class Fuzz : public testing::TestWithParam<FuzzTarget> {};
INSTANTIATE_TEST_SUITE_P(, Fuzz, testing::ValuesIn(fuzz_targets().begin(), fuzz_targets().end()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(Fuzz, the_corpus_and_changes_of_it_do_no_harm) {
  const FuzzTarget& target = GetParam();
  const std::vector<std::string> inputs = fuzz_inputs(target);
  ASSERT_FALSE(inputs.empty());
  EXPECT_NO_THROW(target.run(inputs[0])) << "the first input is a sound one";
  std::mt19937 rng(1);
  for (const std::string& input : inputs) {
    fuzz(target, input);
    for (int i = 0; i < 200; ++i) fuzz(target, changed(input, rng));
  }
}

}  // namespace
}  // namespace ms
