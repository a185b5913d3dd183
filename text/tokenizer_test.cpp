// tokenizer_test.cpp: the ids that other implementations give, and vocabularies that are spoilt.
#include "text/tokenizer.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <iterator>
#include <map>
#include <thread>

#include "base/test_errors.hpp"
#include "formats/gguf_builder.hpp"
#include "formats/hugging_face.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

using Ids = std::vector<uint32_t>;
using Texts = std::vector<std::string>;

constexpr uint32_t kSeparator = 0xFFFFFFFF;  // in testdata/make_expectations.py
constexpr Tokenizer::EncodeOptions kPlain = {.add_special = false, .parse_special = false};
constexpr Tokenizer::EncodeOptions kSpecial = {.add_special = false, .parse_special = true};

std::string utf8(uint32_t code) {  // below 0x800
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | code >> 6), static_cast<char>(0x80 | (code & 0x3F))};
}

// The characters that stand for the bytes in GPT-2's vocabulary.
Texts byte_characters() {
  Texts out;
  uint32_t next = 256;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte < 0x7F) || (byte >= 0xA1 && byte != 0xAD);
    out.push_back(utf8(printable ? byte : next++));
  }
  return out;
}

// A vocabulary to be spoilt. Byte-level: ids 0-255 are the bytes, then "ab", "abc" by merges, then
// specials.
struct Vocabulary {
  std::string model = {}, pre = {};
  Texts tokens = {}, merges = {};
  std::vector<int32_t> kinds = {};
  std::vector<float> scores = {};
  std::map<std::string, uint32_t> ids = {};
  std::map<std::string, bool> flags = {};

  static Vocabulary byte_level() {
    Vocabulary v = {
        .model = "gpt2", .pre = "gpt-2", .tokens = byte_characters(), .merges = {"a b", "ab c"}};
    v.kinds.assign(256, 1);
    for (const std::string token : {"ab", "abc"}) v.add(token, 1);
    v.add("<s>", 3);
    v.add("<|im_end|>", 3);
    v.add("~user~", 4);
    v.ids = {{"bos", 258}, {"eos", 259}};
    return v;
  }

  // 0-2 are specials, 3-258 the bytes, then pieces with the scores given.
  static Vocabulary sentencepiece(const std::vector<std::pair<std::string, float>>& pieces) {
    Vocabulary v = {.model = "llama"};
    v.add("<unk>", 2);
    v.add("<s>", 3);
    v.add("</s>", 3);
    for (int byte = 0; byte < 256; ++byte) v.add(fmt::format("<0x{:02X}>", byte), 6);
    for (const auto& [piece, score] : pieces) v.add(piece, 1, score);
    v.ids = {{"bos", 1}, {"eos", 2}, {"unknown", 0}};
    return v;
  }

  void add(const std::string& token, int32_t kind, float score = 0) {
    tokens.push_back(token);
    kinds.push_back(kind);
    scores.push_back(score);
  }

  GgufBuilder gguf() const {
    GgufBuilder out;
    out.set("general.architecture", "llama")
        .set("tokenizer.ggml.model", model)
        .set("tokenizer.ggml.tokens", views(tokens));
    if (!pre.empty()) out.set("tokenizer.ggml.pre", pre);
    if (!kinds.empty()) out.set("tokenizer.ggml.token_type", kinds);
    if (model == "llama") out.set("tokenizer.ggml.scores", scores);
    if (model == "gpt2") out.set("tokenizer.ggml.merges", views(merges));
    for (const auto& [name, id] : ids) out.set("tokenizer.ggml." + name + "_token_id", id);
    for (const auto& [name, flag] : flags) out.set("tokenizer.ggml." + name, flag);
    return out;
  }

  static std::vector<std::string_view> views(const Texts& texts) {
    return {texts.begin(), texts.end()};
  }
};

Tokenizer load(const GgufBuilder& builder) {
  TemporaryFile file(builder.bytes());
  return Tokenizer::from_file(open_model(file.path()));
}

Tokenizer load(const Vocabulary& vocabulary) { return load(vocabulary.gguf()); }

template <class T>
std::string failure(const T& vocabulary) {
  try {
    load(vocabulary);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

// The columns of testdata/mixed_text.tsv: a text, and a hash of its tokens for each model.
std::vector<Texts> mixed_text() {
  std::vector<Texts> out;
  for (const std::string& line : split(read_file(testdata("mixed_text.tsv")), "\n")) {
    if (!line.empty()) out.push_back(split(line, "\t"));
  }
  return out;
}

// A folder's tokenizer. `files` are links: name in the folder, and what it is.
Tokenizer load_folder(const std::map<std::string, std::filesystem::path>& files,
                      const std::string& config = "{}") {
  const TemporaryFolder folder;
  for (const auto& [name, path] : files)
    std::filesystem::create_symlink(std::filesystem::absolute(path), folder.path() / name);
  ModelFile file(folder.path(), "a tokenizer");
  read_hugging_face_tokenizer(folder.path(), {"config.json", parse_json(config, "config.json")},
                              file);
  return Tokenizer::from_file(file);
}

// The tokens of recorded texts; each text comes back, unless the vocabulary is without case.
void expect_records(const Tokenizer& tokenizer, const std::filesystem::path& records,
                    bool lossless = true) {
  const Texts texts = split(read_file(records.string() + ".inp"), "\n__ggml_vocab_test__\n");
  const Texts expected = split(read_file(records.string() + ".out"), "\n");
  ASSERT_GE(texts.size(), 40u);
  ASSERT_GE(expected.size(), texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const Ids ids = tokenizer.encode(texts[i], kPlain);
    std::string printed;
    for (const uint32_t id : ids) printed += fmt::format(" {}", id);
    EXPECT_EQ(printed, expected[i]) << texts[i];
    if (lossless) {
      EXPECT_EQ(tokenizer.decode(ids, true), texts[i]);
    }
  }
}

class VocabularyFile : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, VocabularyFile,
                         testing::Values("ggml-vocab-gpt-2", "ggml-vocab-llama-spm",
                                         "ggml-vocab-deepseek-llm", "ggml-vocab-phi-3",
                                         "ggml-vocab-bert-bge"),
                         [](const auto& info) { return testing::PrintToString(info.index); });

TEST_P(VocabularyFile, gives_the_ids_of_its_records) {
  const auto file = model_file(GetParam());
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file;
  expect_records(Tokenizer::from_file(open_model(file)), file, GetParam() != "ggml-vocab-bert-bge");
}

struct FolderCase {
  std::string folder, records;               // below tokenizers/
  std::map<std::string, std::string> files;  // its name, where it differs: in the folder
  std::string config = "{}";
};
void PrintTo(const FolderCase& c, std::ostream* out) { *out << c.folder; }

class VocabularyFolder : public testing::TestWithParam<FolderCase> {};
INSTANTIATE_TEST_SUITE_P(
    , VocabularyFolder,
    testing::Values(
        FolderCase{.folder = "gpt2",
                   .records = "gpt2/ggml-vocab-gpt-2.gguf",
                   .files = {{"vocab.json", "vocab.json"}, {"merges.txt", "merges.txt"}},
                   .config = R"({"model_type": "gpt2"})"},
        FolderCase{.folder = "qwen2",
                   .records = "qwen2/ggml-vocab-qwen2.gguf",
                   .files = {{"vocab.json", "vocab.json"},
                             {"merges.txt", "merges.txt"},
                             {"tokenizer_config.json", "tokenizer_config.upstream.json"}}},
        FolderCase{.folder = "ortx-phi-3-mini",
                   .records = "ggml-vocab-phi-3/ggml-vocab-phi-3.gguf",
                   .files = {{"tokenizer.json", "tokenizer.json"},
                             {"tokenizer_config.json", "tokenizer_config.json"}}}),
    [](const auto& info) { return testing::PrintToString(info.index); });

TEST_P(VocabularyFolder, gives_the_ids_of_the_records) {
  const auto root = shared_folder() / "tokenizers", folder = root / GetParam().folder;
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "needs " << folder;
  std::map<std::string, std::filesystem::path> files;
  for (const auto& [name, from] : GetParam().files) files.emplace(name, folder / from);
  expect_records(load_folder(files, GetParam().config), root / GetParam().records);
}

// Somebody's editor has turned the no-break spaces of this file into spaces.
TEST(TokenizerJson, of_llama_2_is_refused_as_it_is_and_exact_when_repaired) {
  const auto folder = shared_folder() / "tokenizers/llama2-sentencepiece";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << "needs " << folder;
  std::map<std::string, std::filesystem::path> files;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"})
    files.emplace(name, folder / name);
  EXPECT_SAYS(message_of<Error>([&] { load_folder(files); }),
              "tokenizer.json cannot be used: Merges text file invalid at line 18918");

  Json json = Json::parse(read_file(folder / "tokenizer.json"));
  auto& vocabulary = json["model"]["vocab"];
  for (const auto& [spaces, right] :
       std::map<std::string, std::string>{{" ", "\u00A0"},
                                          {"  ", "\u00A0\u00A0"},
                                          {"    ", "\u00A0\u00A0\u00A0\u00A0"},
                                          {"▁ ", "▁\u00A0"}}) {
    vocabulary[right] = vocabulary[spaces];
    vocabulary.erase(spaces);
  }
  for (auto& merge : json["model"]["merges"]) {
    if (merge == "   ") merge = "\u00A0 \u00A0";
    if (merge == "     ") merge = "\u00A0\u00A0 \u00A0\u00A0";
    if (merge == "▁  ") merge = "▁ \u00A0";
  }
  const TemporaryFile repaired(json.dump());
  files["tokenizer.json"] = repaired.path();
  const Tokenizer tokenizer = load_folder(files);
  expect_records(tokenizer, folder / "ggml-vocab-llama-spm.gguf");
  EXPECT_EQ(tokenizer.encode("Hello", {}).front(), 1u);  // bos
  EXPECT_EQ(tokenizer.encode("<s></s>", kSpecial), (Ids{1, 2}));
  EXPECT_GT(tokenizer.encode("<s></s>", kPlain).size(), 4u);
}

class MixedText : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, MixedText,
                         testing::Values("tales-31m", "smollm2-135m", "qwen2.5-coder-0.5b",
                                         "gemma3-270m"),
                         [](const auto& info) { return testing::PrintToString(info.index); });

TEST_P(MixedText, becomes_the_tokens_of_the_models_own_tokenizer) {
  const auto file = model_file(GetParam());
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file;
  const Tokenizer tokenizer = Tokenizer::from_file(open_model(file));
  const std::vector<Texts> lines = mixed_text();
  ASSERT_EQ(lines.size(), 1001u);
  const auto column = std::ranges::find(lines[0], GetParam()) - lines[0].begin();
  for (size_t i = 1; i < lines.size(); ++i) {
    const std::string text = nlohmann::json::parse(lines[i][0]);
    Ids ids = tokenizer.encode(text, kPlain);
    ids.push_back(kSeparator);
    std::ranges::copy(tokenizer.encode(text, kSpecial), std::back_inserter(ids));
    ASSERT_EQ(hash_of(ids), lines[i].at(column)) << lines[i][0] << testing::PrintToString(ids);
  }
}

TEST_P(MixedText, comes_back) {
  const auto file = model_file(GetParam());
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file;
  const Tokenizer tokenizer = Tokenizer::from_file(open_model(file));
  size_t lost = 0;
  for (const Texts& line : mixed_text()) {
    if (line[0] == "text") continue;
    const std::string text = nlohmann::json::parse(line[0]);
    // SentencePiece has no other character for a space than U+2581; SmolLM2 has no tokens for some
    // bytes.
    const bool same = tokenizer.decode(tokenizer.encode(text, kPlain), false) == text;
    if (!same && text.find("▁") == text.npos) ++lost;
    if (text.find("▁") == text.npos) {
      EXPECT_EQ(tokenizer.decode(tokenizer.encode(text, kSpecial), false) == text, same) << text;
    }
  }
  EXPECT_EQ(lost > 0, GetParam() == "smollm2-135m");
  EXPECT_LT(lost, 60u);
}

// Two implementations that share no code, and two forms of one vocabulary.
TEST(TokenizerJson, gives_the_tokens_of_the_gguf_file) {
  const auto phi3 = shared_folder() / "tokenizers/ortx-phi-3-mini";
  const auto tales = shared_folder() / "models/tales-31m/tokenizer.json";
  const auto gguf = model_file("ggml-vocab-phi-3");
  for (const auto& path : {phi3, tales, gguf, model_file("tales-31m")})
    if (!std::filesystem::exists(path)) GTEST_SKIP() << "needs " << path;
  const std::pair<Tokenizer, Tokenizer> pairs[] = {
      {Tokenizer::from_file(open_model(gguf)),
       load_folder({{"tokenizer.json", phi3 / "tokenizer.json"},
                    {"tokenizer_config.json", phi3 / "tokenizer_config.json"}})},
      {Tokenizer::from_file(open_model(model_file("tales-31m"))),
       load_folder({{"tokenizer.json", tales}})}};
  for (const auto& [by_gguf, by_json] : pairs) {
    ASSERT_LE(by_json.vocab_size(), by_gguf.vocab_size());  // which is padded
    for (uint32_t id = 0; id < by_json.vocab_size(); ++id) {
      EXPECT_EQ(by_json.piece(id), by_gguf.piece(id)) << id;
      EXPECT_EQ(by_json.is_control(id), by_gguf.is_control(id)) << id;
    }
    EXPECT_EQ(by_json.space_prefix(), by_gguf.space_prefix());
    EXPECT_EQ(Ids(by_json.stop_tokens().begin(), by_json.stop_tokens().end()),
              Ids(by_gguf.stop_tokens().begin(), by_gguf.stop_tokens().end()));
    for (const Texts& line : mixed_text()) {
      if (line[0] == "text") continue;
      const std::string text = nlohmann::json::parse(line[0]);
      for (const auto options : {kPlain, kSpecial}) {
        const Ids ids = by_gguf.encode(text, options);
        ASSERT_EQ(by_json.encode(text, options), ids) << text;
        EXPECT_EQ(by_json.decode(ids, true), by_gguf.decode(ids, true));
      }
    }
  }
}

// ---- small ones, to be spoilt ----

// Byte-level: "a" to "e" and their pairs, and three added tokens.
Json byte_level_json() {
  return Json::parse(R"({"version": "1.0", "truncation": null, "padding": null,
      "added_tokens": [
        {"id": 7, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": true},
        {"id": 8, "content": "<|im_end|>", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": false},
        {"id": 9, "content": "<tool>", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": false}],
      "normalizer": {"type": "NFC"},
      "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                        "use_regex": true},
      "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [7], "tokens": ["<s>"]}}},
      "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true,
                  "use_regex": true},
      "model": {"type": "BPE", "dropout": null, "unk_token": null,
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": false,
        "byte_fallback": false, "ignore_merges": false,
        "vocab": {"a": 0, "b": 1, "Ġ": 2, "Ã": 3, "©": 4, "ab": 5, "Ã©": 6},
        "merges": [["a", "b"], ["Ã", "©"]]}})");
}

// WordPiece, cut and padded as sentence-transformers does.
Json word_piece_json() {
  return Json::parse(R"({"version": "1.0",
      "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
      "padding": {"strategy": {"Fixed": 16}, "direction": "Right", "pad_to_multiple_of": null,
                  "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"},
      "added_tokens": [
        {"id": 0, "content": "[PAD]", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": true},
        {"id": 1, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": true},
        {"id": 2, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": true},
        {"id": 3, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false,
         "normalized": false, "special": true}],
      "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                     "strip_accents": null, "lowercase": true},
      "pre_tokenizer": {"type": "BertPreTokenizer"},
      "post_processor": {"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}},
                   {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                           "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}}},
      "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
      "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "play": 4, "##ing": 5,
                          "!": 6, "cafe": 7}}})");
}

// Of a file with this tokenizer.json and these settings.
Tokenizer load_json(const Json& json, const Json& config = Json::object()) {
  const TemporaryFile tokenizer(json.dump()), settings(config.dump());
  return load_folder(
      {{"tokenizer.json", tokenizer.path()}, {"tokenizer_config.json", settings.path()}});
}

TEST(TokenizerJson, byte_level_tokens_are_bytes) {
  const Tokenizer tokenizer = load_json(byte_level_json());
  EXPECT_EQ(tokenizer.vocab_size(), 10u);
  EXPECT_EQ(tokenizer.encode("ab ab", kPlain), (Ids{5, 2, 5}));
  EXPECT_EQ(tokenizer.encode("e\u0301 é", kPlain), (Ids{6, 2, 6}));  // composed
  EXPECT_EQ(tokenizer.piece(2), " ");
  EXPECT_EQ(tokenizer.piece(3), "\xC3");
  EXPECT_EQ(tokenizer.piece(6), "é");
  EXPECT_EQ(tokenizer.decode(Ids{7, 5, 2, 3, 4, 3}, true), "ab é\uFFFD");
  EXPECT_EQ(tokenizer.decode(Ids{7, 5}, false), "<s>ab");
}

TEST(TokenizerJson, the_frame_of_a_text_is_the_files_or_the_settings) {
  EXPECT_EQ(load_json(byte_level_json()).encode("ab", {}), (Ids{7, 5}));
  const Json without = {{"add_bos_token", false}, {"bos_token", "<s>"}};
  EXPECT_EQ(load_json(byte_level_json(), without).encode("ab", {}), (Ids{5}));
  const Json both = {{"add_bos_token", true},
                     {"bos_token", "<s>"},
                     {"add_eos_token", true},
                     {"eos_token", "<|im_end|>"}};
  EXPECT_EQ(load_json(byte_level_json(), both).encode("ab", {}), (Ids{7, 5, 8}));
  EXPECT_SAYS(message_of<Error>([] {
                load_json(byte_level_json(), {{"add_eos_token", true}});
              }),
              "adds a eos token");
}

TEST(TokenizerJson, text_never_forms_a_token_that_ends_a_reply) {
  Json json = byte_level_json();
  for (const char* character : {"<", "|", "i", "m", "_", "e", "n", "d", ">", "s", "t", "o", "l"})
    json["model"]["vocab"][character] = json["model"]["vocab"].size();
  const uint32_t bos = 20, end = 21, tool = 22;  // behind them
  for (auto& token : json["added_tokens"]) token["id"] = token["id"].get<uint32_t>() + 13;
  json["post_processor"] = nullptr;
  // <|im_end|> is not special by the file, but by its name.
  const Tokenizer tokenizer = load_json(json);
  EXPECT_EQ(tokenizer.encode("ab<|im_end|>", kSpecial), (Ids{5, end}));
  EXPECT_EQ(tokenizer.encode("<|im_end|>", kPlain).size(), 10u);
  EXPECT_EQ(tokenizer.encode("<s>", kSpecial), (Ids{bos}));
  EXPECT_EQ(tokenizer.encode("<s>", kPlain).size(), 3u);
  EXPECT_EQ(tokenizer.encode("<tool>", kPlain), (Ids{tool}));
  EXPECT_EQ(Ids(tokenizer.stop_tokens().begin(), tokenizer.stop_tokens().end()), (Ids{end}));
  EXPECT_TRUE(tokenizer.is_control(bos));
  EXPECT_TRUE(tokenizer.is_control(end));
  EXPECT_FALSE(tokenizer.is_control(tool));
}

// Unigram takes any piece, control tokens with it.
TEST(TokenizerJson, a_control_token_that_the_model_would_form_is_cut) {
  Json json = byte_level_json();
  json["normalizer"] = nullptr;
  json["pre_tokenizer"] = {
      {"type", "Metaspace"}, {"replacement", "▁"}, {"prepend_scheme", "first"}, {"split", false}};
  json["decoder"] = json["pre_tokenizer"];
  json["added_tokens"].erase(2), json["added_tokens"].erase(1);
  json["added_tokens"][0]["id"] = 1;
  json["post_processor"] = nullptr;
  json["model"] = Json::parse(R"({"type": "Unigram", "unk_id": 0, "byte_fallback": false,
      "vocab": [["<unk>", 0], ["<s>", 0], ["▁", -2], ["<", -3], ["s", -3], [">", -3], ["s>", -4],
                ["a", -1]]})");
  const Tokenizer tokenizer = load_json(json);
  EXPECT_EQ(tokenizer.encode("<s>", kSpecial), (Ids{1}));
  EXPECT_EQ(tokenizer.encode("<s>", kPlain), (Ids{2, 3, 6}));
  EXPECT_EQ(tokenizer.encode("a<s>a<s>", kPlain), (Ids{2, 7, 3, 6, 7, 3, 6}));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a <s>", kPlain), true), "a <s>");
  EXPECT_FALSE(tokenizer.space_prefix());  // not after each special token
}

TEST(TokenizerJson, word_pieces_are_not_cut_off_nor_padded) {
  const Tokenizer tokenizer = load_json(word_piece_json());
  EXPECT_EQ(tokenizer.encode("Playing playing PLAY! Café zz", {}),
            (Ids{2, 4, 5, 4, 5, 4, 6, 7, 1, 3}));
  EXPECT_EQ(tokenizer.encode("[CLS]", kPlain), (Ids{1, 1, 1}));
  EXPECT_EQ(tokenizer.encode("[CLS]", kSpecial), (Ids{2}));
  EXPECT_EQ(tokenizer.decode(Ids{2, 4, 5, 7, 3}, true), "playing cafe");
}

TEST(TokenizerJson, vocab_txt_and_gguf_give_what_tokenizer_json_gives) {
  const auto file = model_file("ggml-vocab-bert-bge");
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "needs " << file;
  const ModelFile gguf = open_model(file);
  Json json = word_piece_json();
  Json vocabulary = Json::object();
  std::string lines;
  uint32_t id = 0;
  for (const std::string_view token : *gguf.find_strings("tokenizer.ggml.tokens")) {
    std::string word(token);
    const bool special = word.starts_with('[') && word.ends_with(']');
    if (word.starts_with("▁"))
      word.erase(0, 3);
    else if (!special)
      word.insert(0, "##");
    vocabulary[word] = id++;
    lines += word + "\n";
  }
  const std::map<std::string, uint32_t> ids = {
      {"[PAD]", 0}, {"[UNK]", 100}, {"[CLS]", 101}, {"[SEP]", 102}};
  for (auto& token : json["added_tokens"]) token["id"] = ids.at(token["content"]);
  for (auto& [name, token] : json["post_processor"]["special_tokens"].items())
    token["ids"] = {ids.at(name)};
  json["model"]["vocab"] = std::move(vocabulary);
  const TemporaryFile text(lines);
  const Tokenizer by_json = load_json(json), by_gguf = Tokenizer::from_file(gguf),
                  by_lines = load_folder({{"vocab.txt", text.path()}});
  for (const Texts& line : mixed_text()) {
    const Ids expected = by_json.encode(line[0], {});
    ASSERT_EQ(expected.front(), 101u);
    ASSERT_EQ(expected.back(), 102u);
    ASSERT_EQ(by_gguf.encode(line[0], {}), expected) << line[0];
    ASSERT_EQ(by_lines.encode(line[0], {}), expected) << line[0];
  }
}

TEST(TokenizerJson, what_cannot_be_used_is_refused) {
  const auto spoilt = [](const std::function<void(Json&)>& spoil) {
    Json json = byte_level_json();
    spoil(json);
    return message_of<Error>([&] { load_json(json); });
  };
  EXPECT_SAYS(spoilt([](Json& j) { j["model"]["type"] = "Magic"; }), "cannot be used");
  EXPECT_SAYS(spoilt([](Json& j) { j.erase("model"); }), "cannot be used: Model missing");
  EXPECT_SAYS(spoilt([](Json& j) { j["model"]["merges"][0][1] = "x"; }), "cannot be used");
  EXPECT_SAYS(spoilt([](Json& j) { j["model"]["vocab"]["a"] = -1; }), "cannot be used");
  EXPECT_SAYS(spoilt([](Json& j) { j["model"]["vocab"]["a"] = 4000000000u; }),
              "a token has the number 4000000000, but there are 10");
  EXPECT_SAYS(
      spoilt([](Json& j) {
        j["decoder"] = {
            {"type", "CTC"}, {"pad_token", "p"}, {"word_delimiter_token", "|"}, {"cleanup", true}};
      }),
      "decoders of type \"CTC\" are not supported");
  EXPECT_SAYS(spoilt([](Json& j) { j["added_tokens"][0]["id"] = 100; }),
              "added token \"<s>\" is 100, out of turn");
  EXPECT_SAYS(spoilt([](Json& j) { j["post_processor"]["special_tokens"]["<s>"]["ids"] = {10}; }),
              "the post_processor adds token 10, but there are 10");
  const auto with_split = [&](const std::string& expression) {
    return spoilt([&](Json& j) {
      j["pre_tokenizer"] = {{"type", "Split"},
                            {"pattern", {{"Regex", expression}}},
                            {"behavior", "Isolated"},
                            {"invert", false}};
    });
  };
  EXPECT_SAYS(with_split("("), "cannot be used");
  EXPECT_SAYS(with_split("((((a{1000}){1000}){1000}){1000})(?=b)"), "cannot be used");
  EXPECT_SAYS(message_of<Error>([] {
                const TemporaryFile deep(std::string(100'000, '['));
                load_folder({{"tokenizer.json", deep.path()}});
              }),
              "nested deeper");
}

TEST(TokenizerJson, an_expression_that_takes_for_ever_is_stopped) {
  Json json = byte_level_json();
  json["post_processor"] = nullptr;
  json["pre_tokenizer"] = {{"type", "Split"},
                           {"pattern", {{"Regex", "(?:a|aa)+(?!a)c|."}}},
                           {"behavior", "Isolated"},
                           {"invert", false}};
  const Tokenizer tokenizer = load_json(json);
  EXPECT_EQ(tokenizer.encode("b", kPlain), Ids{1});
  std::string hostile;
  for (int i = 0; i < 1000; ++i) hostile += std::string(25, 'a') + " ";
  const std::string stopped = message_of<Error>([&] { tokenizer.encode(hostile, kPlain); });
  EXPECT_SAYS(stopped, "it takes more than");
  const std::string again = message_of<Error>([&] { tokenizer.encode("b", kPlain); });
  EXPECT_SAYS(again, "does not run again");
}

TEST(TokenizerJson, a_text_that_is_too_long_is_refused) {
  const Tokenizer tokenizer = load_json(byte_level_json());
  const std::string longest = std::string(899'999, ' ') + "a";
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(longest, kPlain), false), longest);
  EXPECT_SAYS(message_of<Error>([&] { tokenizer.encode(longest + " ", kPlain); }),
              "texts of at most 900000 bytes");
}

class Golden : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(, Golden,
                         testing::Values("smollm2-135m", "smollm2-135m-chat", "smollm2-135m-long",
                                         "gemma3-270m", "gemma3-270m-long", "qwen2.5-coder-0.5b",
                                         "qwen2.5-coder-0.5b-chat", "qwen2.5-coder-0.5b-long"),
                         [](const auto& info) { return testing::PrintToString(info.index); });

TEST_P(Golden, text_becomes_the_golden_tokens) {
  const auto golden = shared_folder() / "golden" / (GetParam() + ".json");
  const auto file = model_file(split(split(GetParam(), "-chat")[0], "-long")[0]);
  if (!std::filesystem::exists(golden) || !std::filesystem::exists(file))
    GTEST_SKIP() << "needs " << golden << " and " << file;
  const auto expected = read_json(golden);
  std::string text = expected["text"];
  if (text == "long.txt") text = read_file(golden.parent_path() / text);
  const bool chat = GetParam().ends_with("-chat");
  const Tokenizer tokenizer = Tokenizer::from_file(open_model(file));
  EXPECT_EQ(tokenizer.encode(text, {.add_special = !chat, .parse_special = chat}),
            expected["tokens"].get<Ids>());
}

// With a vocabulary of all bytes and all pairs of bytes, every pair merges: the tokens show where
// pieces end.
TEST(Tokenizer, text_is_split_as_published) {
  Vocabulary v = {.model = "gpt2", .tokens = byte_characters()};
  const Texts bytes = v.tokens;
  for (const std::string& left : bytes) {
    for (const std::string& right : bytes) {
      v.tokens.push_back(left + right);
      v.merges.push_back(left + " " + right);
    }
  }
  const std::vector<Texts> lines = mixed_text();
  for (const std::string& line : split(read_file(testdata("splits.tsv")), "\n")) {
    if (line.empty()) continue;
    v.pre = split(line, "\t")[0];
    const Tokenizer tokenizer = load(v);
    Ids ids;
    for (size_t i = 1; i < lines.size(); ++i) {
      std::ranges::copy(
          tokenizer.encode(nlohmann::json::parse(lines[i][0]).get<std::string>(), kPlain),
          std::back_inserter(ids));
      ids.push_back(kSeparator);
    }
    EXPECT_EQ(hash_of(ids), split(line, "\t")[1]) << v.pre;
  }
}

TEST(Tokenizer, special_tokens_in_text_are_parsed_only_on_request) {
  const Tokenizer tokenizer = load(Vocabulary::byte_level());
  EXPECT_EQ(tokenizer.encode("abc<|im_end|>abc", kSpecial), (Ids{257, 259, 257}));
  EXPECT_EQ(tokenizer.encode("<s>", kPlain), (Ids{'<', 's', '>'}));
  EXPECT_EQ(tokenizer.encode("ab~user~", kPlain), (Ids{256, 260}));
}

TEST(Tokenizer, merges_never_form_a_control_token) {
  Vocabulary v = Vocabulary::byte_level();
  v.add("xy", 3);
  v.merges.push_back("x y");
  EXPECT_SAYS(failure(v), "merge 2 is \"x y\", but no token that text may form is \"xy\"");
}

TEST(Tokenizer, of_special_tokens_the_longest_is_taken) {
  Vocabulary v = Vocabulary::byte_level();
  v.add("<s><s>", 3);
  EXPECT_EQ(load(v).encode("<s><s><s>", kSpecial), (Ids{261, 258}));
}

TEST(Tokenizer, bos_and_eos_are_added_as_the_file_says) {
  Vocabulary v = Vocabulary::byte_level();
  EXPECT_EQ(load(v).encode("ab", {}), (Ids{256}));
  v.flags = {{"add_bos_token", true}, {"add_eos_token", true}};
  EXPECT_EQ(load(v).encode("ab", {}), (Ids{258, 256, 259}));
  EXPECT_EQ(load(v).encode("", {}), (Ids{258, 259}));
  EXPECT_EQ(load(v).encode("ab", kPlain), (Ids{256}));
  v.flags.clear();
  v.pre = "llama-bpe";  // which begins with bos though many files do not say so
  EXPECT_EQ(load(v).encode("ab", {}), (Ids{258, 256}));
}

TEST(Tokenizer, decode_leaves_out_control_tokens_on_request) {
  const Tokenizer tokenizer = load(Vocabulary::byte_level());
  const Ids ids = {258, 257, 260, 259};
  EXPECT_EQ(tokenizer.decode(ids, true), "abc~user~");
  EXPECT_EQ(tokenizer.decode(ids, false), "<s>abc~user~<|im_end|>");
}

TEST(Tokenizer, decoded_text_is_utf8_and_pieces_are_bytes) {
  const Tokenizer tokenizer = load(Vocabulary::byte_level());
  EXPECT_EQ(tokenizer.encode("é", kPlain), (Ids{0xC3, 0xA9}));
  EXPECT_EQ(tokenizer.piece(0xC3), "\xC3");
  EXPECT_EQ(tokenizer.decode(Ids{0xC3, 0xA9, 0xC3}, true), "é\uFFFD");
  EXPECT_EQ(tokenizer.encode("a\xC3z", kPlain), (Ids{'a', 0xEF, 0xBF, 0xBD, 'z'}));
}

TEST(Tokenizer, a_token_beyond_the_vocabulary_is_refused) {
  const Tokenizer tokenizer = load(Vocabulary::byte_level());
  EXPECT_EQ(tokenizer.vocab_size(), 261u);
  EXPECT_THROW(tokenizer.piece(261), std::invalid_argument);
  EXPECT_THROW(tokenizer.is_control(261), std::invalid_argument);
  EXPECT_THROW(tokenizer.decode(Ids{0, 261}, true), std::invalid_argument);
}

TEST(Tokenizer, tokens_that_end_a_reply_are_known_by_id_or_name) {
  Vocabulary v = Vocabulary::byte_level();
  v.ids["eos"] = 258;
  v.add("<|eom_id|>", 1);  // called a normal token by the file, but text must not form it
  Tokenizer tokenizer = load(v);
  EXPECT_EQ(Ids(tokenizer.stop_tokens().begin(), tokenizer.stop_tokens().end()),
            (Ids{258, 259, 261}));
  EXPECT_EQ(tokenizer.bos(), 258u);
  EXPECT_EQ(tokenizer.eos(), 258u);
  EXPECT_EQ(tokenizer.eot(), 259u);
  EXPECT_TRUE(tokenizer.is_control(261));
  EXPECT_FALSE(tokenizer.is_control(260));
}

TEST(Tokenizer, the_end_of_a_harmony_message_does_not_end_the_reply) {
  Vocabulary v = Vocabulary::byte_level();
  v.add("<|end|>", 3);
  v.add("<|return|>", 3);
  const Tokenizer tokenizer = load(v);
  EXPECT_EQ(Ids(tokenizer.stop_tokens().begin(), tokenizer.stop_tokens().end()), (Ids{259, 262}));
}

TEST(Tokenizer, sentencepiece_merges_the_highest_score_first_and_the_leftmost_of_equals) {
  // ids from 259
  const Tokenizer tokenizer = load(Vocabulary::sentencepiece(
      {{"▁", -9}, {"a", -9}, {"b", -9}, {"ab", -2}, {"ba", -1}, {"aa", -3}, {"▁a", -3}}));
  EXPECT_EQ(tokenizer.encode("aba", kPlain), (Ids{265, 263}));  // ▁a by score only after ba
  EXPECT_EQ(tokenizer.encode("aaa", kPlain),
            (Ids{265, 264}));  // the ▁a on the left of the equal aa
  EXPECT_EQ(tokenizer.encode("ac", kPlain), (Ids{265, 3 + 'c'}));
  EXPECT_EQ(tokenizer.encode("é", kPlain), (Ids{259, 3 + 0xC3, 3 + 0xA9}));
  EXPECT_EQ(tokenizer.encode("", {}), (Ids{1}));
  EXPECT_EQ(tokenizer.encode("a", {}), (Ids{1, 265}));
}

TEST(Tokenizer, the_space_in_front_comes_with_encoding_and_goes_with_decoding) {
  Vocabulary v = Vocabulary::sentencepiece({{"▁", -1}, {"a", -1}});
  const Tokenizer with = load(v);
  EXPECT_EQ(with.encode("a</s>a", kSpecial), (Ids{259, 260, 2, 259, 260}));
  EXPECT_EQ(with.decode(with.encode("a</s> a ", kSpecial), false), "a</s> a ");
  EXPECT_EQ(with.piece(259), " ");
  EXPECT_TRUE(with.space_prefix());
  v.flags["add_space_prefix"] = false;
  const Tokenizer without = load(v);
  EXPECT_EQ(without.encode("a a", kPlain), (Ids{260, 259, 260}));
  EXPECT_EQ(without.decode(Ids{259, 260}, false), " a");
}

TEST(Tokenizer, without_byte_tokens_an_unknown_token_stands_for_a_character) {
  Vocabulary v = {.model = "llama"};
  v.add("<unk>", 2);
  v.add("▁", 1);
  EXPECT_SAYS(failure(v), "neither a token for the byte 0x00 nor an unknown token");
  v.ids["unknown"] = 0;
  EXPECT_EQ(load(v).encode("é!", kPlain), (Ids{1, 0, 0}));
}

TEST(Tokenizer, special_tokens_of_phi_3_swallow_the_white_space_after_them) {
  if (!std::filesystem::exists(model_file("ggml-vocab-phi-3")))
    GTEST_SKIP() << "needs " << model_file("ggml-vocab-phi-3");
  const Tokenizer tokenizer = Tokenizer::from_file(open_model(model_file("ggml-vocab-phi-3")));
  const Ids hello = tokenizer.encode("Hello", kPlain);
  EXPECT_EQ(tokenizer.encode("<|user|> \nHello", kSpecial), (Ids{32010, hello.at(0)}));
  EXPECT_EQ(tokenizer.encode("<s>\n", kSpecial).size(), 3u);  // <s> does not
}

TEST(Tokenizer, threads_may_share_one) {
  const Tokenizer tokenizer = load(Vocabulary::byte_level());
  const std::vector<Texts> lines = mixed_text();
  std::vector<std::string> hashes(4);
  std::vector<std::thread> threads;
  for (std::string& hash : hashes) {
    threads.emplace_back([&] {
      Ids ids;
      for (const Texts& line : lines)
        std::ranges::copy(tokenizer.encode(line[0], kPlain), std::back_inserter(ids));
      hash = hash_of(ids);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(hashes, std::vector<std::string>(4, hashes[0]));
}

TEST(Tokenizer, long_runs_of_anything_are_encoded_in_time_or_refused) {
  const Tokenizer byte_level = load(Vocabulary::byte_level());
  const Tokenizer sentencepiece =
      load(Vocabulary::sentencepiece({{"▁", -1}, {"▁▁", -2}, {"a", -1}, {"aa", -2}}));
  for (const char character : {' ', '\n', 'a', '=', '1'}) {
    const std::string text = std::string(500'000, character) + "x";
    for (const Tokenizer* tokenizer : {&byte_level, &sentencepiece}) {
      EXPECT_EQ(tokenizer->decode(tokenizer->encode(text, kPlain), true), text);
    }
  }
  EXPECT_THROW(byte_level.encode(std::string(3'000'000, ' ') + "x", kPlain),
               Error);  // beyond the matcher's stack
}

TEST(Tokenizer, a_vocabulary_that_contradicts_itself_is_refused) {
  const auto spoilt = [](auto&& spoil) {
    Vocabulary v = Vocabulary::byte_level();
    spoil(v);
    return failure(v);
  };
  EXPECT_SAYS(spoilt([](auto& v) { v.model = "t5"; }), "model \"t5\" are not supported");
  EXPECT_SAYS(spoilt([](auto& v) { v.model = "bert"; }), "there is no unknown token");
  EXPECT_SAYS(spoilt([](auto& v) { v.pre = "no-such"; }),
              "\"no-such\" (tokenizer.ggml.pre) is not known");
  EXPECT_SAYS(spoilt([](auto& v) { v.pre = ""; }), "tokenizer.ggml.pre");
  EXPECT_SAYS(spoilt([](auto& v) { v.tokens[7] = "ab"; }), "tokens 7 and 256 are the same: \"ab\"");
  EXPECT_SAYS(spoilt([](auto& v) { v.tokens[7] = "\xFF"; }), "token 7 is not UTF-8");
  EXPECT_SAYS(spoilt([](auto& v) { v.tokens.clear(); }), "tokenizer.ggml.tokens has 0 entries");
  EXPECT_SAYS(spoilt([](auto& v) { v.merges[1] = "abc"; }),
              "merge 1 is \"abc\", not two tokens with a space between");
  EXPECT_SAYS(spoilt([](auto& v) { v.merges[1] = "a b c"; }),
              "merge 1 is \"a b c\", not two tokens");
  EXPECT_SAYS(spoilt([](auto& v) { v.merges[1] = " c"; }), "not two tokens");
  EXPECT_SAYS(spoilt([](auto& v) { v.merges[1] = "ab xx"; }),
              "no token that text may form is \"xx\"");
  EXPECT_SAYS(spoilt([](auto& v) { v.merges[1] = "a c"; }),
              "no token that text may form is \"ac\"");
  EXPECT_SAYS(spoilt([](auto& v) { v.merges[0] = "\xFF b"; }), "merge 0 is not UTF-8");
  EXPECT_SAYS(spoilt([](auto& v) { v.kinds.pop_back(); }),
              "token_type has 260 entries, but there are 261 tokens");
  EXPECT_SAYS(spoilt([](auto& v) { v.kinds[3] = 9; }), "of token 3 is 9");
  EXPECT_SAYS(spoilt([](auto& v) { v.ids["eos"] = 261; }),
              "eos_token_id is 261, but there are 261 tokens");
  EXPECT_SAYS(spoilt([](auto& v) { v.ids.erase("bos"), v.flags["add_bos_token"] = true; }),
              "adds a bos token");

  const auto spoilt_scores = [](auto&& spoil) {
    Vocabulary v = Vocabulary::sentencepiece({{"▁", -1}});
    spoil(v);
    return failure(v);
  };
  EXPECT_SAYS(spoilt_scores([](auto& v) { v.scores.pop_back(); }),
              "scores has 259 entries, but there are 260 tokens");
  EXPECT_SAYS(spoilt_scores([](auto& v) { v.scores[259] = NAN; }), "the score of token 259");
  EXPECT_SAYS(spoilt_scores([](auto& v) { v.tokens[5] = "<0x2>"; }),
              "token 5 is a byte, but its text is \"<0x2>\"");
}

TEST(Tokenizer, metadata_that_are_missing_or_of_another_type_are_refused) {
  const auto file = [](std::string_view model) {
    GgufBuilder out;
    out.set("tokenizer.ggml.model", model).set("tokenizer.ggml.pre", "gpt-2");
    return out;
  };
  const std::vector<std::string_view> token = {"a"};
  EXPECT_SAYS(failure(GgufBuilder().set("tokenizer.ggml.tokens", token)), "tokenizer.ggml.model");
  EXPECT_SAYS(failure(file("gpt2")), "tokenizer.ggml.tokens is missing");
  EXPECT_SAYS(failure(file("gpt2").set("tokenizer.ggml.tokens", 3)), "tokenizer.ggml.tokens");
  EXPECT_SAYS(failure(file("gpt2").set("tokenizer.ggml.tokens", token)),
              "tokenizer.ggml.merges is missing");
  EXPECT_SAYS(failure(file("llama").set("tokenizer.ggml.tokens", token)),
              "tokenizer.ggml.scores is missing");
  EXPECT_SAYS(failure(file("llama")
                          .set("tokenizer.ggml.tokens", token)
                          .set("tokenizer.ggml.scores", std::vector<int32_t>{1})),
              "tokenizer.ggml.scores");
  EXPECT_SAYS(failure(file("gpt2")
                          .set("tokenizer.ggml.tokens", token)
                          .set("tokenizer.ggml.token_type", std::vector<float>{1})),
              "tokenizer.ggml.token_type");
}

}  // namespace
}  // namespace ms
