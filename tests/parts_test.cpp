// parts_test.cpp: models whose weights are larger than one binding, by a limit far below the
// device's own.
#include <gtest/gtest.h>

#include <numeric>

#include "base/test_errors.hpp"
#include "engine/engine.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

// The tiny models' weights are of 32 to 1,024 bytes a row, hundreds of rows each.
constexpr uint64_t small = 16 << 10;

EngineOptions options_of(const std::filesystem::path& model, uint64_t max_binding_bytes) {
  return {.model = model,
          .device = {.cache = MS_BINARY_DIR "/pipelines", .max_binding_bytes = max_binding_bytes},
          .options = {.context = 16, .batch = 4}};
}

std::vector<std::filesystem::path> models() {
  std::vector<std::filesystem::path> result = {MS_SOURCE_DIR "/tests/golden/tiny-moe.gguf"};
  for (const char* type : {"f16", "q8_0", "q4_0", "q4_k_m"})
    result.push_back(shared_folder() / fmt::format("golden/tiny-{}.gguf", type));
  std::erase_if(result, [](const auto& path) { return !exists(path); });
  return result;
}

TEST(Parts, a_model_of_weights_beyond_one_binding_has_the_same_logits) {
  std::vector<uint32_t> tokens(12);
  for (uint32_t i = 0; i < 12; ++i) tokens[i] = i * 37 % 256;
  std::vector<uint32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0u);
  for (const auto& model : models()) {
    SCOPED_TRACE(model);
    Engine whole(options_of(model, 0)), parts(options_of(model, small));
    EXPECT_GT(parts.model().decode(1).dispatches.size(), whole.model().decode(1).dispatches.size());
    for (const uint32_t batch : {1u, 4u})
      EXPECT_EQ(parts.logits(tokens, rows, batch), whole.logits(tokens, rows, batch))
          << "batch " << batch;
  }
}

TEST(Parts, what_is_one_binding_must_fit_it) {
  EngineOptions options = options_of(models().front(), small);
  options.options.context = 100'000;
  EXPECT_SAYS(message_of<Error>([&] { Engine{options}; }), "a context of 100000 tokens");
  options.options = {.context = 16, .batch = 60'000};
  const std::string message = message_of<Error>([&] { Engine{options}; });
  EXPECT_SAYS(message, "it holds 16384: at most");
  EXPECT_SAYS(message, "(-b)");
}

}  // namespace
}  // namespace ms
