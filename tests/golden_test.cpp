// golden_test.cpp: whole models against the exact logits of an independent implementation, whole
// and through the decode step, with both types of KV cache and of activations.
//
// Bounds as in the golden folder's README. Real models and the presets between portable and best
// take long: they run where MAINSPRING_FULL is set, but for the real ones' default configuration.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "base/nmse.hpp"
#include "engine/engine.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

struct Golden {
  std::string name;     // of the files in the golden folder
  std::string model;    // of model_file(), or the file in the golden folder or in models/
  bool greedy = false;  // its 48 greedy tokens are the exact model's own
  bool real = false;
  bool step = true;   // else the whole batch alone
  bool ours = false;  // in tests/golden, else in the shared folder
};

std::filesystem::path folder_of(const Golden& golden) {
  return golden.ours ? std::filesystem::path(MS_SOURCE_DIR "/tests/golden")
                     : shared_folder() / "golden";
}

std::filesystem::path path_of(const Golden& golden) {
  if (golden.real) return model_file(golden.model);
  if (golden.ours || golden.name.starts_with("tiny")) return folder_of(golden) / golden.model;
  return shared_folder() / "models" / golden.model;
}

struct Case {
  Golden golden;
  gpu::Tier tier;
  KvType kv_type = KvType::f16;
  bool int16 = false;
};

std::vector<Case> cases() {
  std::vector<Golden> goldens = {
      {.name = "stories260K", .model = "stories260K/stories260K.f32.gguf", .greedy = true},
      {.name = "tales-31m-q8_0", .model = "tales-31m/tales-31m-q8_0.gguf"},
      {.name = "tales-31m-q4_k_m", .model = "tales-31m/tales-31m-q4_k_m.gguf"}};
  for (const std::string type : {"f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q2_k",
                                 "q3_k_m", "q4_k_m", "q5_k_m", "q6_k", "iq4_nl", "iq4_xs"})
    goldens.push_back({.name = "tiny-" + type, .model = "tiny-" + type + ".gguf"});
  for (const std::string name : {"tiny-moe", "tiny-granite", "tiny-qwen2"})
    goldens.push_back({.name = name, .model = name + ".gguf", .ours = true});
  for (const std::string name : {"hf-llama3", "hf-mistral", "hf-qwen3", "hf-gemma3"})
    goldens.push_back({.name = name, .model = name, .ours = true});
  for (const std::string model : {"smollm2-135m", "qwen2.5-coder-0.5b"})
    for (const std::string what : {"", "-chat"})
      goldens.push_back({.name = model + what, .model = model, .greedy = true, .real = true});
  goldens.push_back({.name = "gemma3-270m", .model = "gemma3-270m", .greedy = true, .real = true});
  // 880 tokens, one by one, take a minute.
  const bool full = std::getenv("MAINSPRING_FULL") != nullptr;
  goldens.push_back(
      {.name = "smollm2-135m-long", .model = "smollm2-135m", .real = true, .step = full});
  if (full)
    for (const std::string model : {"qwen2.5-coder-0.5b", "gemma3-270m"})
      goldens.push_back({.name = model + "-long", .model = model, .real = true});

  std::vector<Case> result;
  for (const Golden& golden : goldens)
    for (const auto tier :
         {gpu::Tier::best, gpu::Tier::portable, gpu::Tier::subgroups, gpu::Tier::f16}) {
      if (!full && (tier > gpu::Tier::portable || (golden.real && tier != gpu::Tier::best)))
        continue;
      result.push_back({golden, tier, KvType::f32});
      result.push_back({golden, tier, KvType::f16});
      result.push_back({golden, tier, KvType::f32, true});
      if (golden.real) result.push_back({golden, tier, KvType::q8_0});
    }
  return result;
}

std::string name_of(const Case& c) {
  constexpr const char* tiers[] = {"best", "portable", "subgroups", "f16", "matrix"};
  std::string name = fmt::format("{}_{}_{}{}", c.golden.name, tiers[int(c.tier)],
                                 to_string(c.kv_type), c.int16 ? "_int16" : "");
  for (const char c : {'-', '.'}) std::ranges::replace(name, c, '_');
  return name;
}
void PrintTo(const Case& c, std::ostream* out) { *out << name_of(c); }

std::vector<float> read_floats(const std::filesystem::path& path) {
  const std::string bytes = read_file(path);
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), values.size() * sizeof(float));
  return values;
}

class GoldenLogits : public testing::TestWithParam<Case> {};

TEST_P(GoldenLogits, are_met_whole_and_step_by_step) {
  const auto& [golden, tier, kv_type, int16] = GetParam();
  const auto folder = folder_of(golden);
  if (!exists(folder)) GTEST_SKIP() << folder << " is not there";
  if (!exists(path_of(golden)))
    GTEST_SKIP() << path_of(golden) << " is not there (tools/get-model fetches it)";

  const auto json = read_json(folder / (golden.name + ".json"));
  const std::vector<uint32_t> tokens = json["tokens"];
  std::vector<uint32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0u);
  if (json.contains("rows")) rows = json["rows"].get<std::vector<uint32_t>>();
  const std::vector<float> exact = read_floats(folder / (golden.name + ".exact.f32"));

  EngineOptions options{
      .model = path_of(golden),
      .device = {.tier = tier, .cache = MS_BINARY_DIR "/pipelines"},
      .options = {.context = uint32_t(tokens.size()) + 48,
                  .kv_type = kv_type,
                  .activations = int16 ? ActivationType::int16 : ActivationType::f32}};
  Engine engine(options);
  ASSERT_EQ(exact.size(), rows.size() * engine.model().config().vocab);
  // The largest of Qwen2.5's biases of keys is 158, and 31 more elements have its scale of q8_0.
  const double of_q8 = golden.model.starts_with("qwen2.5") ? 5e-3 : 1e-3;
  const double limit = kv_type == KvType::f32 ? 1e-6 : kv_type == KvType::f16 ? 1e-5 : of_q8;
  const auto whole = engine.logits(tokens, rows, uint32_t(tokens.size()));
  EXPECT_LT(nmse(whole, exact), limit) << "whole";
  std::vector<float> steps;
  if (golden.step) {
    steps = engine.logits(tokens, rows, 1);
    EXPECT_LT(nmse(steps, exact), limit) << "step by step";
  }

  // Overrides give what constants in their place give, bit for bit.
  if (!golden.real || std::getenv("MAINSPRING_FULL")) {
    options.device.overrides_as_constants = true;
    Engine constants(options);
    EXPECT_EQ(constants.logits(tokens, rows, uint32_t(tokens.size())), whole);
    if (golden.step) {
      EXPECT_EQ(constants.logits(tokens, rows, 1), steps);
    }
  }

  if (golden.greedy && kv_type == KvType::f32) {
    const Request request{.sampling = {.temperature = 0}, .max_tokens = 48, .ignore_eos = true};
    EXPECT_EQ(engine.generate(tokens, request).tokens, json["greedy"].get<std::vector<uint32_t>>());
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLogits, testing::ValuesIn(cases()),
                         [](const auto& info) { return name_of(info.param); });

}  // namespace
}  // namespace ms
