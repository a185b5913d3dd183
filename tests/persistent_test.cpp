// persistent_test.cpp: decode steps whose kernels' workgroups wait for each other, beside a
// chain's; and what happens where they wait in vain.
#include <gtest/gtest.h>

#include "base/nmse.hpp"
#include "base/test_errors.hpp"
#include "base/test_files.hpp"
#include "engine/engine.hpp"
#include "engine/step_trial.hpp"

namespace ms {
namespace {

Config small_llama() {
  Config c = config_by_name("llama-1b");
  c.layers = 3;
  c.vocab = 304;
  c.dim = 256;
  c.heads = 8;
  c.kv_heads = 4;
  c.head_dim = c.rotary_dim = 32;
  c.ffn = 512;
  c.rope_scaling = {};
  return c;
}

std::unique_ptr<Engine> engine(ModelOptions options, std::string_view type = "q4_0",
                               std::string* notice = nullptr, uint32_t context = 128,
                               uint64_t max_binding_bytes = 0) {
  options.context = context;
  return std::make_unique<Engine>(EngineOptions{.model = {},
                                                .device = {.max_binding_bytes = max_binding_bytes},
                                                .options = options,
                                                .notice =
                                                    [=](std::string_view text) {
                                                      if (notice) *notice += text;
                                                    }},
                                  small_llama(), type, false);
}

constexpr ModelOptions chain{
    .kv_type = KvType::f32, .activations = ActivationType::int16, .step = Step::chain};
ModelOptions persistent(uint32_t groups = 0) {
  ModelOptions options = chain;
  options.step = Step::persistent;
  options.step_groups = groups;
  return options;
}

// More workgroups than any device runs at once.
uint32_t too_many(Engine& any) {
  const gpu::Caps& caps = any.device().caps();
  return caps.cpu ? caps.cpu_threads + 1 : 8192;
}

std::vector<uint32_t> tokens(uint32_t count) {
  std::vector<uint32_t> result(count);
  for (uint32_t i = 0; i < count; ++i) result[i] = (i * 97 + 5) % 300;
  return result;
}

std::vector<float> step_logits(Engine& engine, uint32_t count) {
  const std::vector<uint32_t> text = tokens(count);
  std::vector<uint32_t> rows(count);
  for (uint32_t i = 0; i < count; ++i) rows[i] = i;
  return engine.logits(text, rows, 1);
}

Request greedy(int32_t count) {
  Request request;
  request.sampling.temperature = 0;
  request.max_tokens = count;
  return request;
}

bool has_it(const gpu::Caps& caps) {
  return caps.max_storage_buffers >= FusedLayer::storage_buffers;
}

class PersistentStepOf : public testing::TestWithParam<std::pair<const char*, KvType>> {};

TEST_P(PersistentStepOf, computes_what_a_chain_does) {
  const auto& [type, kv_type] = GetParam();
  ModelOptions options = chain, other = persistent();
  options.kv_type = other.kv_type = kv_type;
  const auto first = engine(options, type);
  if (!has_it(first->device().caps())) GTEST_SKIP() << "too few storage buffers a kernel";
  const auto second = engine(other, type);
  const size_t dispatches = second->step(true).dispatches().size();
  EXPECT_LT(dispatches, first->step(true).dispatches().size());
  if (kv_type == KvType::f32) {
    EXPECT_EQ(dispatches, engine(persistent())->step(true).dispatches().size());
  }
  // Sums in another order, and of q8_0 an integer may be one more or less.
  EXPECT_LT(nmse(step_logits(*second, 40), step_logits(*first, 40)),
            kv_type == KvType::f32 ? 1e-9 : 1e-5);
  const Generation answer = second->generate(tokens(9), greedy(60));
  EXPECT_EQ(answer.tokens.size(), 60u);
  EXPECT_EQ(answer.tokens, second->generate(tokens(9), greedy(60)).tokens);
  EXPECT_EQ(second->model().options().step, Step::persistent) << "a workgroup waited in vain";
}

// Of q4_k_m, q, k and v of a layer are of two types.
INSTANTIATE_TEST_SUITE_P(Types, PersistentStepOf,
                         testing::Values(std::pair("q4_0", KvType::f32),
                                         std::pair("f16", KvType::f32),
                                         std::pair("q4_k_m", KvType::f32),
                                         std::pair("q4_0", KvType::q8_0)));

// A layer's weights take 290 KiB, of three layers.
TEST(PersistentStep, reaches_weights_as_far_as_a_binding_does) {
  const auto whole = engine(persistent());
  if (!has_it(whole->device().caps())) GTEST_SKIP() << "too few storage buffers a kernel";
  const auto with_bindings_of = [](uint64_t bytes) {
    ModelOptions options = persistent();
    options.batch = 32;
    return engine(options, "q4_0", nullptr, 128, bytes);
  };
  const auto two_at_most = with_bindings_of(600 << 10);
  // The last layer's QKV are beyond the second one's binding, and so a dispatch of their own.
  EXPECT_EQ(two_at_most->step(true).dispatches().size(), whole->step(true).dispatches().size() + 1);
  EXPECT_LT(nmse(step_logits(*two_at_most, 12), step_logits(*whole, 12)), 1e-10);
  EXPECT_SAYS(
      message_of<Error>([&] { with_bindings_of(200 << 10); }),
      "no persistent step: a layer's weights are not in one buffer, of at most 204800 bytes");
}

// A device with subgroup matrices, or whose matrices are emulated.
std::unique_ptr<Engine> engine_with_matrices(ModelOptions options, std::string_view type,
                                             uint64_t max_binding_bytes = 0) {
  options.kv_type = KvType::f16;
  options.context = 128;
  options.batch = 32;
  return std::make_unique<Engine>(
      EngineOptions{.model = {},
                    .device = {.max_binding_bytes = max_binding_bytes,
                               .emulates_matrices = !gpu::Device::adapters().at(0).variant.matrix},
                    .options = options},
      small_llama(), type, false);
}

size_t fused_layers(Engine& engine) {
  size_t count = 0;
  for (const gpu::Dispatch& d : engine.model().decode(1).dispatches)
    count += d.kernel == &fused_layer_kernel;
  return count;
}

TEST(PersistentStep, is_one_dispatch_for_all_layers_where_there_are_matrices) {
  const auto any = engine(chain);
  const gpu::Caps& caps = any->device().caps();
  if (!has_it(caps)) GTEST_SKIP() << "too few storage buffers a kernel";
  const ModelOptions options = persistent(caps.cpu ? caps.cpu_threads : 0);
  for (const auto& [type, count] : {std::pair("q4_0", 70u), {"q4_k_m", 9u}}) {
    SCOPED_TRACE(type);  // of 70 tokens, keys are of two splits
    const auto first = engine_with_matrices(chain, type),
               second = engine_with_matrices(options, type);
    EXPECT_EQ(fused_layers(*second), 1u);
    const auto got = step_logits(*second, count);
    EXPECT_LT(nmse(got, step_logits(*first, count)), 1e-5);
    EXPECT_EQ(second->generate(tokens(9), greedy(9)).tokens,
              first->generate(tokens(9), greedy(9)).tokens);
    EXPECT_EQ(second->model().options().step, Step::persistent) << "a workgroup waited in vain";
    // As far as a binding reaches, of weights and of keys.
    const auto parts = engine_with_matrices(options, type, 600 << 10);
    EXPECT_EQ(fused_layers(*parts), 2u);
    EXPECT_LT(nmse(step_logits(*parts, 9), step_logits(*second, 9)), 1e-8);
  }
}

TEST(PersistentStep, that_stalls_is_taken_again_by_a_chain) {
  const auto first = engine(chain);
  if (!has_it(first->device().caps())) GTEST_SKIP() << "too few storage buffers a kernel";
  {
    std::string notice;
    const auto second = engine(persistent(too_many(*first)), "q4_0", &notice);
    const Generation want = first->generate(tokens(9), greedy(40)),
                     got = second->generate(tokens(9), greedy(40));
    EXPECT_EQ(second->model().options().step, Step::chain);
    EXPECT_EQ(got.tokens, want.tokens);
    EXPECT_EQ(got.finish, want.finish);
    EXPECT_SAYS(notice, "a persistent step stalled");
  }
  const auto second = engine(persistent(too_many(*first)));
  EXPECT_LT(nmse(step_logits(*second, 12), step_logits(*first, 12)), 1e-10);
  EXPECT_EQ(second->model().options().step, Step::chain);
}

TEST(PersistentStep, is_tested_before_it_is_taken) {
  const auto tested = engine(persistent());  // whose weights are as both forms take them
  if (!has_it(tested->device().caps())) GTEST_SKIP() << "too few storage buffers a kernel";
  const StepTrial test = try_persistent_steps(*tested, 120, 60);
  // Whether it is faster is the device's; that it is right, and of a number that runs, is not.
  EXPECT_GT(test.chain_seconds, 0) << test.why;
  EXPECT_GT(test.persistent_seconds, 0) << test.why;
  EXPECT_EQ(tested->model().options().step, test.groups ? Step::persistent : Step::chain);
  EXPECT_EQ(test.groups > 0, test.persistent_seconds < test.chain_seconds);

  const StepTrial slow = try_persistent_steps(*tested, 120, 0);
  EXPECT_SAYS(slow.why, "ms already");
  EXPECT_EQ(tested->model().options().step, Step::chain);

  // The smallest context.
  const auto least = engine(persistent(), "q4_0", nullptr, 1);
  EXPECT_GT(try_persistent_steps(*least, 3, 60).persistent_seconds, 0);

  // A model that cannot have it says why, and keeps its chain.
  const auto other = engine(chain, "q5_1");
  EXPECT_SAYS(try_persistent_steps(*other, 20, 60).why, "the output weights are q5_1");
  EXPECT_EQ(other->model().options().step, Step::chain);
}

TEST(PersistentStep, is_chosen_once_a_device_and_kept) {
  const TemporaryFolder folder;
  std::string said;
  const auto open = [&] {
    said.clear();
    ModelOptions options = chain;
    options.step = Step::automatic;
    return std::make_unique<Engine>(
        EngineOptions{.model = {},
                      .device = {.cache = MS_BINARY_DIR "/pipelines", .tuning = folder.path()},
                      .options = options,
                      .progress = [&](std::string_view what, uint64_t,
                                      uint64_t) { said += what == "trial" ? "tested " : ""; }},
        small_llama(), "q4_0", false);
  };
  const auto first = open();
  const gpu::Caps& caps = first->device().caps();
  if (caps.cpu || !has_it(caps)) {  // a CPU's steps are chains: its threads wait for each other
    EXPECT_EQ(first->model().options().step, Step::chain);
    EXPECT_EQ(said, "");
    return;
  }
  EXPECT_SAYS(said, "tested ");
  const Step step = first->model().options().step;
  EXPECT_EQ(open()->model().options().step, step);
  EXPECT_EQ(said, "") << "tested again";
}

TEST(PersistentStep, refuses_what_it_cannot_do) {
  if (!has_it(engine(chain)->device().caps())) GTEST_SKIP() << "too few storage buffers a kernel";
  ModelOptions options = persistent();
  options.activations = ActivationType::f32;
  EXPECT_SAYS(message_of<Error>([&] { engine(options); }),
              "no persistent step: it takes activations rounded to 16 bits (--activations int16)");
  EXPECT_SAYS(message_of<Error>([&] { engine(persistent(), "q5_1"); }),
              "no persistent step: the output weights are q5_1 [256, 256]; it takes f16");
  EXPECT_SAYS(
      message_of<Error>([&] {
        Engine({.model = std::filesystem::path(MS_SOURCE_DIR) / "tests/golden/tiny-moe.gguf",
                .options = persistent()});
      }),
      "no persistent step: the model is a mixture of experts");
}

}  // namespace
}  // namespace ms
