// matrices_test.cpp: the graph of a device with subgroup matrices, whose activations are f16
// between kernels, on any device.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "base/nmse.hpp"
#include "engine/engine.hpp"
#include "kernels/kernels.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

constexpr uint32_t tokens_at_once = 8;

EngineOptions options_of(const std::filesystem::path& model, bool matrices) {
  return {.model = model,
          .device = {.cache = MS_BINARY_DIR "/pipelines", .emulates_matrices = matrices},
          .options = {.context = 16, .batch = tokens_at_once, .step = Step::chain}};
}

size_t count_of(const gpu::Work& work, const auto& wanted) {
  return size_t(std::ranges::count_if(work.dispatches, wanted));
}
bool gives_halves(const gpu::Dispatch& d) {
  const auto found = std::ranges::find(d.constants, "F16_OUT", &gpu::Constant::name);
  return (d.kernel->name == "rmsnorm" || d.kernel->name == "silu") && found->value != 0;
}

TEST(Matrices, activations_are_f16_between_kernels_and_logits_the_same) {
  if (gpu::Device::adapters().at(0).variant.matrix)
    GTEST_SKIP() << "no device without to compare with";
  std::vector<uint32_t> tokens(2 * tokens_at_once), rows(tokens.size());
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = i * 37 % 256;
  std::iota(rows.begin(), rows.end(), 0u);
  std::vector<std::filesystem::path> models = {MS_SOURCE_DIR "/models/tales-31m-q8_0.gguf"};
  for (const char* type : {"f16", "q4_0", "q4_k_m"})
    models.push_back(shared_folder() / fmt::format("golden/tiny-{}.gguf", type));
  std::erase_if(models, [](const auto& path) { return !exists(path); });
  ASSERT_FALSE(models.empty());
  for (const auto& model : models) {
    SCOPED_TRACE(model);
    Engine plain(options_of(model, false)), matrices(options_of(model, true));
    const gpu::Work work = matrices.model().prefill(tokens_at_once, 0, Decoder::Want::logits);
    // Norms of both halves of a layer, and the activation.
    EXPECT_GE(count_of(work, gives_halves), 3 * matrices.model().config().layers);
    EXPECT_EQ(
        count_of(plain.model().prefill(tokens_at_once, 0, Decoder::Want::logits), gives_halves),
        0u);

    const auto want = plain.logits(tokens, rows, tokens_at_once);
    const auto got = matrices.logits(tokens, rows, tokens_at_once);
    EXPECT_LT(nmse(got, want), 1e-5);  // what is rounded to f16 is half of 2^-11 off at most
    EXPECT_NE(got, want);
  }
}

}  // namespace
}  // namespace ms
