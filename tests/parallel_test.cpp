// parallel_test.cpp: steps of several sequences at once, of which each gets what it gets alone.
#include <gtest/gtest.h>

#include <cstring>

#include "base/nmse.hpp"
#include "engine/engine.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

constexpr uint32_t most = 33, context = 64;

std::vector<std::filesystem::path> models() {
  std::vector<std::filesystem::path> result;
  for (const char* name : {"tiny-moe.gguf", "tiny-qwen2.gguf", "hf-gemma3", "hf-qwen3"})
    result.push_back(std::filesystem::path(MS_SOURCE_DIR) / "tests/golden" / name);
  for (const char* type : {"f16", "q8_0", "q4_0", "q4_k_m"})
    result.push_back(shared_folder() / fmt::format("golden/tiny-{}.gguf", type));
  std::erase_if(result, [](const auto& path) { return !exists(path); });
  return result;
}

// The prompt of a sequence: each of another length.
std::vector<uint32_t> prompt(uint32_t sequence) {
  std::vector<uint32_t> tokens(3 + sequence % 7);
  for (uint32_t i = 0; i < tokens.size(); ++i) tokens[i] = (sequence * 11 + i * 37 + 1) % 100;
  return tokens;
}

// Puts a sequence into a slot: its prompt but for the last token, which the next step feeds.
void start(Engine& engine, uint32_t sequence, uint32_t slot, uint32_t steps) {
  const std::vector<uint32_t> tokens = prompt(sequence);
  const uint32_t filled = uint32_t(tokens.size()) - 1;
  engine.prefill(std::span(tokens).first(filled), 0, {}, slot);
  engine.write_slot({.token = tokens.back(),
                     .position = filled,
                     .limit = filled + steps,
                     .stopped = Stopped::running},
                    slot);
}

// The logits of the first `slots` slots.
std::vector<float> logits(Engine& engine, uint32_t slots) {
  const size_t vocab = engine.config().vocab;
  const auto bytes = engine.device().read(*engine.model().logits().buffer, 0, 4 * slots * vocab);
  std::vector<float> values(bytes.size() / 4);
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<Slot> slots(Engine& engine) {
  std::vector<Slot> result(most);
  const auto bytes = engine.device().read(*engine.model().slots().buffer, 0, most * sizeof(Slot));
  std::memcpy(result.data(), bytes.data(), bytes.size());
  return result;
}

TEST(Parallel, a_sequence_gets_the_same_logits_alone_and_in_company) {
  for (const auto& model : models())
    for (const auto activations : {ActivationType::f32, ActivationType::int16}) {
      SCOPED_TRACE(fmt::format("{}, {}", model.string(), to_string(activations)));
      Engine engine({.model = model,
                     .device = {.cache = MS_BINARY_DIR "/pipelines"},
                     .options = {.slots = most, .context = context, .activations = activations}});
      const uint32_t few = Pass::few_rows(engine.device().caps());
      ASSERT_LT(few, most);
      std::vector<std::vector<float>> alone;
      for (uint32_t sequence = 0; sequence <= few; ++sequence) {
        start(engine, sequence, 0, 3);
        engine.device().submit(engine.step(true, 1));
        alone.push_back(logits(engine, 1));
      }
      const size_t vocab = engine.config().vocab;
      for (const uint32_t n : {2u, 3u, few, few + 1}) {
        for (uint32_t slot = 0; slot < n; ++slot) start(engine, slot, slot, 3);
        engine.device().submit(engine.step(true, n));
        const std::vector<float> together = logits(engine, n);
        for (uint32_t slot = 0; slot < n; ++slot) {
          const std::vector<float> mine(together.begin() + std::ptrdiff_t(slot * vocab),
                                        together.begin() + std::ptrdiff_t((slot + 1) * vocab));
          if (n <= few) {
            ASSERT_EQ(mine, alone[slot]) << "sequence " << slot << " of " << n;
            continue;
          }
          // Matmuls may round activations otherwise than GEMVs do.
          ASSERT_LT(nmse(mine, alone[slot]), 1e-5) << "sequence " << slot << " of " << n;
        }
      }
    }
}

TEST(Parallel, sequences_end_by_themselves) {
  Engine engine({.model = models().front(),
                 .device = {.cache = MS_BINARY_DIR "/pipelines"},
                 .options = {.slots = most, .context = context}});
  std::vector<std::vector<uint32_t>> alone;
  for (uint32_t slot = 0; slot < 3; ++slot)
    alone.push_back(engine
                        .generate(prompt(slot), {.sampling = {.temperature = 0},
                                                 .max_tokens = int(slot) + 1,
                                                 .ignore_eos = true})
                        .tokens);
  for (uint32_t slot = 0; slot < 3; ++slot) start(engine, slot, slot, slot + 1);
  std::vector<std::vector<uint32_t>> together(3);
  for (int step = 0; step < 5; ++step) {
    const std::vector<Slot> before = slots(engine);
    engine.device().submit(engine.step(true, 3));
    const std::vector<Slot> after = slots(engine);
    for (uint32_t slot = 0; slot < 3; ++slot)
      if (before[slot].stopped == Stopped::running) together[slot].push_back(after[slot].token);
  }
  EXPECT_EQ(together, alone);
  for (const Slot& slot : slots(engine)) EXPECT_NE(slot.stopped, Stopped::running);
}

TEST(Parallel, there_are_so_many_slots) {
  Engine engine({.model = models().front(), .options = {.slots = 2, .context = context}});
  EXPECT_THROW(engine.step(true, 3), std::invalid_argument);
  EXPECT_THROW(engine.step(true, 0), std::invalid_argument);
  EXPECT_THROW(engine.write_slot({}, 2), std::invalid_argument);
  EXPECT_THROW(engine.prefill(prompt(0), 0, {}, 2), std::invalid_argument);
}

}  // namespace
}  // namespace ms
