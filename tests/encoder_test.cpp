// encoder_test.cpp: embeddings: of encoders against other implementations, and of decoders.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "engine/engine.hpp"
#include "formats/safetensors_builder.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

Engine open(const std::filesystem::path& model, gpu::Tier tier = gpu::Tier::best,
            uint32_t context = 0) {
  return Engine(EngineOptions{.model = model,
                              .device = {.tier = tier, .cache = MS_BINARY_DIR "/pipelines"},
                              .options = {.context = context, .batch = 16}});
}

const std::filesystem::path folder = MS_SOURCE_DIR "/tests/golden";

double length(std::span<const float> v) {
  double sum = 0;
  for (float x : v) sum += double(x) * x;
  return std::sqrt(sum);
}

TEST(Encoder, states_are_those_of_transformers) {
  const std::vector<uint32_t> tokens = read_json(folder / "hf-bert.json")["tokens"];
  const std::string bytes = read_file(folder / "hf-bert.exact.f32");
  std::vector<float> exact(bytes.size() / 4);
  std::memcpy(exact.data(), bytes.data(), bytes.size());
  for (const gpu::Tier tier : {gpu::Tier::portable, gpu::Tier::best}) {
    Engine engine = open(folder / "hf-bert", tier);
    const std::vector<float> states = engine.states(tokens);
    ASSERT_EQ(states.size(), exact.size());
    for (size_t i = 0; i < exact.size(); ++i)
      ASSERT_NEAR(states[i], exact[i], 2e-5) << i / (exact.size() / tokens.size());
    // A shorter text after a longer one does not see the longer one's keys.
    const auto two = std::span(tokens).first(2);
    EXPECT_EQ(engine.states(two), open(folder / "hf-bert", tier).states(two));
  }
}

TEST(Encoder, makes_no_text_and_refuses_what_it_cannot_hold) {
  Engine engine = open(folder / "hf-bert");
  const auto says = [](auto call, const char* part) {
    try {
      call();
      ADD_FAILURE() << "nothing was refused: " << part;
    } catch (const std::exception& error) {
      EXPECT_NE(std::string_view(error.what()).find(part), std::string_view::npos) << error.what();
    }
  };
  const std::vector<uint32_t> one = {1}, many(65, 1), none, outside = {128};
  says([&] { engine.generate(one, {}); }, "is an encoder: it makes embeddings");
  says([&] { engine.logits(one, {}, 1); }, "is an encoder: it makes embeddings");
  says([&] { engine.embed(many); }, "65 tokens; the context holds 64: shorten the text");
  says([] { Engine({.model = folder / "hf-bert", .options = {.context = 65}}); },
       "has 64 positions, and cannot have a context of 65 (-c)");
  says([] { Engine({.model = folder / "hf-bert", .options = {.kv_type = KvType::f32}}); },
       "is an encoder: it has no KV cache that could be f32 (-ctk, -ctv)");
  says(
      [] {
        Engine({.model = folder / "hf-bert", .options = {.activations = ActivationType::int16}});
      },
      "is an encoder: it cannot round activations to 16 bits (--activations)");
  says([] { Engine({.model = folder / "hf-bert", .options = {.step = Step::persistent}}); },
       "is an encoder: it takes no steps that could be persistent (--step)");
  says([&] { engine.embed(none); }, "no tokens");
  says([&] { engine.embed(outside); }, "the vocabulary has 128");
}

TEST(Encoder, a_smaller_context_is_the_longest_text) {
  Engine all = open(folder / "hf-bert"), few = open(folder / "hf-bert", gpu::Tier::best, 5);
  const std::vector<uint32_t> five = {1, 2, 3, 4, 5}, six = {1, 2, 3, 4, 5, 6};
  EXPECT_EQ(few.context(), 5u);
  EXPECT_EQ(few.states(five), all.states(five));
  try {
    few.embed(six);
    ADD_FAILURE() << "six tokens were taken";
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "6 tokens; the context holds 5: shorten the text, or raise it (-c)");
  }
}

TEST(Encoder, embeddings_of_minilm_are_those_of_sentence_transformers) {
  const std::filesystem::path model = model_file("minilm-l6-v2");
  if (!exists(model)) GTEST_SKIP() << model << " is not there (tools/get-model fetches it)";
  Engine engine = open(model);
  for (const auto& c : read_json(folder / "minilm.json")) {
    const std::vector<uint32_t> tokens =
        engine.tokenizer().encode(c["text"].get<std::string>(), {.add_special = true});
    EXPECT_EQ(tokens, c["tokens"].get<std::vector<uint32_t>>());
    const std::vector<float> embedding = engine.embed(tokens),
                             exact = c["embedding"].get<std::vector<float>>();
    ASSERT_EQ(embedding.size(), exact.size());
    for (size_t i = 0; i < exact.size(); ++i) ASSERT_NEAR(embedding[i], exact[i], 1e-5);
  }
}

// As sentence-transformers does it: [CLS], the first tokens, [SEP].
TEST(Encoder, a_text_is_cut_where_its_folder_says) {
  const ModelFolder copy;
  for (const char* file : {"config.json", "model.safetensors"})
    copy.write(file, read_file(folder / "hf-bert" / file));
  copy.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\nc\n");
  copy.write("sentence_bert_config.json", R"({"max_seq_length": 6, "do_lower_case": false})");
  using Tokens = std::vector<uint32_t>;
  Engine engine = open(copy.path());
  EXPECT_EQ(engine.encode("a b c a"), (Tokens{2, 4, 5, 6, 4, 3}));
  EXPECT_EQ(engine.encode("a b c a b c"), (Tokens{2, 4, 5, 6, 4, 3}));
  EXPECT_EQ(engine.embed(engine.encode("a b c a b c")), engine.embed(engine.encode("a b c a")));
  engine.embed(Tokens(64, 4));  // tokens are taken as they are
  // A context that does not hold as many is too small for the whole text.
  EXPECT_EQ(open(copy.path(), gpu::Tier::best, 5).encode("a b c a b c").size(), 8u);
  EXPECT_EQ(open(copy.path(), gpu::Tier::best, 7).encode("a b c a b c").size(), 6u);
}

// The last state makes the logits; 40 tokens are three batches.
TEST(Encoder, decoders_embed_a_text_by_its_last_state) {
  Engine engine = open(folder / "tiny-qwen2.gguf");
  const std::vector<uint32_t> tokens = read_json(folder / "tiny-qwen2.json")["tokens"];
  const std::vector<float> states = engine.states(tokens), embedding = engine.embed(tokens);
  const size_t dim = embedding.size();
  ASSERT_EQ(states.size(), tokens.size() * dim);
  EXPECT_NEAR(length(embedding), 1, 1e-6);
  const auto last = std::span(states).last(dim);
  for (size_t i = 0; i < dim; ++i) EXPECT_NEAR(embedding[i], last[i] / length(last), 1e-6);
  // What a generation finds in the KV cache is its own.
  const Request greedy{.sampling = {.temperature = 0}, .max_tokens = 8};
  const auto before = engine.generate(tokens, greedy).tokens;
  engine.embed(std::vector<uint32_t>(20, 7));
  EXPECT_EQ(engine.generate(tokens, greedy).tokens, before);
}

}  // namespace
}  // namespace ms
