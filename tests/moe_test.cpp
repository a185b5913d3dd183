// moe_test.cpp: a mixture of experts beyond its logits (golden_test.cpp): what of a file is
// refused, and that a step's work is the same whichever experts are chosen.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/test_files.hpp"
#include "engine/engine.hpp"
#include "tests/changed_file.hpp"

namespace ms {
namespace {

const std::string tiny = MS_SOURCE_DIR "/tests/golden/tiny-moe.gguf";  // 2 of 8 experts

TEST(Mixture, a_file_that_contradicts_itself_is_an_error_that_says_where) {
  const std::string used = "llama.expert_used_count", count = "llama.expert_count";
  for (const auto& [file, what] :
       {std::pair(with_number(tiny, used, 9), "llama.expert_used_count is 9, of 8 experts"),
        {with_number(tiny, used, 0), "llama.expert_used_count is 0"},
        {without(tiny, used), "llama.expert_used_count"},
        {with_number(tiny, count, 257), "llama.expert_count is 257; a model has 1 to 256"},
        {with_number(tiny, count, 4),
         "blk.0.ffn_gate_inp.weight is [8, 64], the model's numbers say [4, 64]"},
        {with_number(tiny, "llama.feed_forward_length", 32),
         "blk.0.ffn_gate_exps.weight is [8, 64, 64], the model's numbers say [8, 32, 64]"},
        {with_number(tiny, count, 0), "there is no tensor blk.0.ffn_gate.weight"},
        {without(tiny, "blk.1.ffn_down_exps.weight"),
         "there is no tensor blk.1.ffn_down_exps.weight"},
        {without(tiny, "blk.0.ffn_gate_inp.weight"),
         "there is no tensor blk.0.ffn_gate_inp.weight"}})
    expect_refused(file, what);
}

TEST(Mixture, batches_that_choose_other_experts_make_the_same_of_a_token) {
  Engine engine({.model = tiny, .options = {.batch = 16, .kv_type = KvType::f32}});
  std::vector<uint32_t> tokens(40);
  for (uint32_t i = 0; i < 40; ++i) tokens[i] = i * 37 % 256;
  const std::vector<uint32_t> rows = {39};
  const std::vector<float> steps = engine.logits(tokens, rows, 1);
  for (const uint32_t batch : {2u, 7u, 16u}) {
    const std::vector<float> whole = engine.logits(tokens, rows, batch);
    for (size_t i = 0; i < steps.size(); ++i)
      ASSERT_NEAR(whole[i], steps[i], 1e-4) << "batch " << batch << ", token " << i;
  }
}

TEST(Mixture, a_step_is_recorded_once_and_its_experts_are_chosen_on_the_device) {
  Engine engine({.model = tiny});
  const std::vector<uint32_t> prompt = {1, 2, 3};
  const Request request{.sampling = {.temperature = 0}, .max_tokens = 20, .ignore_eos = true};
  const Generation first = engine.generate(prompt, request);
  const auto before = engine.device().counts();
  EXPECT_EQ(engine.generate(prompt, request).tokens, first.tokens);
  const auto after = engine.device().counts();
  EXPECT_EQ(after.bind_groups, before.bind_groups);
  EXPECT_EQ(after.pipelines, before.pipelines);
}

TEST(Mixture, a_step_and_a_prefill_run_the_kernels_of_experts) {
  Engine engine({.model = tiny});
  for (const gpu::Work& work :
       {engine.model().decode(1), engine.model().prefill(40, 0, Decoder::Want::logits)})
    for (const std::string_view name : {"topk", "moe_gather", "scatter_add"})
      EXPECT_TRUE(std::ranges::any_of(work.dispatches, [&](const gpu::Dispatch& d) {
        return d.kernel->name == name;
      })) << name;
}

// Also more than two of more than eight experts, for which topk has another form.
TEST(Mixture, random_weights_of_a_shape_without_a_file) {
  const Config shape{.name = "twelve",
                     .vocab = 64,
                     .dim = 64,
                     .layers = 2,
                     .heads = 2,
                     .kv_heads = 1,
                     .head_dim = 32,
                     .rotary_dim = 32,
                     .ffn = 96,
                     .experts = 12,
                     .experts_used = 3,
                     .context = 64};
  Engine engine({.model = {}, .options = {.kv_type = KvType::f32}}, shape, "q8_0", false);
  std::vector<uint32_t> tokens(20);
  for (uint32_t i = 0; i < 20; ++i) tokens[i] = i * 37 % 64;
  const std::vector<uint32_t> rows = {19};
  const std::vector<float> steps = engine.logits(tokens, rows, 1),
                           whole = engine.logits(tokens, rows, 20);
  float largest = 0;
  for (size_t i = 0; i < steps.size(); ++i) {
    ASSERT_NEAR(whole[i], steps[i], 1e-4) << i;
    largest = std::max(largest, std::abs(steps[i]));
  }
  EXPECT_GT(largest, 1e-3);
}

TEST(Mixture, a_step_reads_the_weights_of_the_experts_that_are_used_alone) {
  Engine engine({.model = tiny});
  const uint64_t bytes = read_file(tiny).size();
  EXPECT_LT(engine.model().bytes_per_token(), bytes / 2);
  EXPECT_GT(engine.model().bytes_per_token(), bytes / 8);
}

}  // namespace
}  // namespace ms
