// hub_test.cpp: names, listings, which file is meant. The protocol is tests/hub_test.py's.
#include "hub/hub.hpp"

#include <gtest/gtest.h>

#include "base/test_errors.hpp"
#include "base/test_files.hpp"
#include "hub/part_file.hpp"

namespace ms {
namespace {

std::vector<RepositoryModel> models_named(std::initializer_list<const char*> paths) {
  std::vector<RepositoryFile> files;
  for (const char* path : paths) files.push_back({.path = path, .size = 10});
  return models_among(std::move(files));
}

std::string chosen(const std::vector<RepositoryModel>& models, std::string_view which) {
  const RepositoryModel* const model = choose(models, which);
  return model ? model->entry : "none";
}

TEST(ModelName, is_a_repository_and_what_is_wanted_of_it) {
  const ModelName name = ModelName::parse("some-user/Repo.1_b:Q4_K_M");
  EXPECT_EQ(name.repository, "some-user/Repo.1_b");
  EXPECT_EQ(name.which, "Q4_K_M");
  EXPECT_EQ(name.text(), "some-user/Repo.1_b:Q4_K_M");
  EXPECT_EQ(ModelName::parse("a/b").which, "");
  EXPECT_EQ(ModelName::parse("a/b:folder/x.gguf").which, "folder/x.gguf");
  for (const char* wrong : {"", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b..c", "a/.b", "a b/c",
                            "a/b:", ":Q8_0", "a/b\n", "a\\b/c", "a:b/c"})
    EXPECT_THROW(ModelName::parse(wrong), std::invalid_argument) << wrong;
}

TEST(Repository, a_model_is_chosen_by_quantisation_or_file) {
  const auto models =
      models_named({"README.md", "m-BF16.gguf", "m-IQ4_NL.gguf", "m-Q4_K_M.gguf", "._m-Q4_K_M.gguf",
                    ".m-Q6_K.gguf", ".cache/m-Q5_0.gguf", "m-UD-Q4_K_XL.gguf", "m-q8_0.gguf",
                    "mmproj-F16.gguf", "m-mmproj-Q8_0.gguf", "m.imatrix.gguf"});
  EXPECT_EQ(models.size(), 5u);
  EXPECT_EQ(chosen(models, ""), "m-Q4_K_M.gguf");
  EXPECT_EQ(chosen(models, "q4_k_m"), "m-Q4_K_M.gguf");
  EXPECT_EQ(chosen(models, "Q8_0"), "m-q8_0.gguf");
  EXPECT_EQ(chosen(models, "UD-Q4_K_XL"), "m-UD-Q4_K_XL.gguf");
  EXPECT_EQ(chosen(models, "Q4_K_XL"), "m-UD-Q4_K_XL.gguf");
  EXPECT_EQ(chosen(models, "m-BF16.gguf"), "m-BF16.gguf");
  EXPECT_EQ(chosen(models, "Q4_K"), "none");
  EXPECT_EQ(chosen(models, "Q4_NL"), "none");
  EXPECT_EQ(chosen(models, "mmproj-F16.gguf"), "none");
  EXPECT_EQ(chosen(models, ".m-Q6_K.gguf"), "none");
  EXPECT_EQ(chosen(models_named({"b-Q2_K.gguf", "a-Q8_0.gguf"}), ""), "a-Q8_0.gguf");
  EXPECT_EQ(chosen(models_named({"b-Q2_K.gguf", "a-F32.gguf"}), ""), "a-F32.gguf");
  // The plain one of two, whichever stands first.
  EXPECT_EQ(chosen(models_named({"a/m-UD-Q8_0.gguf", "m-Q8_0.gguf"}), ""), "m-Q8_0.gguf");
}

TEST(Repository, a_name_for_each_model_finds_it) {
  const auto models = models_named({"m-Q8_0.gguf", "other/m-Q8_0.gguf", "plain.gguf"});
  const auto names = names_of(models, "u/r");
  EXPECT_EQ(names,
            (std::vector<std::string>{"u/r:plain.gguf", "u/r:Q8_0", "u/r:other/m-Q8_0.gguf"}));
  for (size_t i = 0; i < models.size(); ++i)
    EXPECT_EQ(choose(models, ModelName::parse(names[i]).which), &models[i]);
}

TEST(Repository, parts_of_a_split_file_are_one_model_which_ends_with_the_first) {
  const auto models =
      models_named({"Q4_0/m-Q4_0-00002-of-00003.gguf", "Q4_0/m-Q4_0-00001-of-00003.gguf",
                    "Q4_0/m-Q4_0-00003-of-00003.gguf", "m-Q8_0-00002-of-00002.gguf"});
  ASSERT_EQ(models.size(), 2u);
  const RepositoryModel& whole = *choose(models, "Q4_0");
  EXPECT_TRUE(whole.complete);
  EXPECT_EQ(whole.entry, "Q4_0/m-Q4_0-00001-of-00003.gguf");
  ASSERT_EQ(whole.files.size(), 3u);
  EXPECT_EQ(whole.files.back().path, whole.entry);
  EXPECT_EQ(whole.bytes(), 30u);
  EXPECT_EQ(choose(models, "Q4_0/m-Q4_0-00002-of-00003.gguf"), &whole);
  EXPECT_FALSE(choose(models, "Q8_0")->complete);
}

TEST(Repository, safetensors_are_a_folder_with_its_configuration_last) {
  const auto models = models_named(
      {"config.json", "tokenizer.json", "model-00001-of-00002.safetensors",
       "model-00002-of-00002.safetensors", "model.safetensors.index.json",
       "consolidated.safetensors", "onnx/model.safetensors", "README.md", "chat_template.jinja"});
  ASSERT_EQ(models.size(), 1u);
  EXPECT_EQ(models[0].entry, "");
  std::vector<std::string> paths;
  for (const RepositoryFile& file : models[0].files) paths.push_back(file.path);
  EXPECT_EQ(paths, (std::vector<std::string>{
                       "chat_template.jinja", "model-00001-of-00002.safetensors",
                       "model-00002-of-00002.safetensors", "model.safetensors.index.json",
                       "tokenizer.json", "config.json"}));
  const auto sentences = models_named({"1_Pooling/config.json", "config.json", "model.safetensors",
                                       "modules.json", "sentence_bert_config.json"});
  ASSERT_EQ(sentences.size(), 1u);
  EXPECT_EQ(sentences[0].files.size(), 4u);
  EXPECT_FALSE(models_named({"model.safetensors"})[0].complete);
  EXPECT_TRUE(models_named({"config.json", "pytorch_model.bin"}).empty());
}

TEST(Repository, a_listing_gives_sizes_and_checksums) {
  const std::string sha(64, 'a'), git(40, 'b');
  const auto files = parse_listing(fmt::format(R"([{{"type": "directory", "path": "x.gguf"}},
        {{"type": "file", "path": "m.gguf", "size": 130, "oid": "{1}", "lfs": {{"oid": "{0}", "size": 9}}}},
        {{"type": "file", "path": "config.json", "size": 2, "oid": "{1}"}},
        {{"type": "file", "path": "../README.md", "size": 2}}])",
                                               sha, git),
                                   "u/r");
  ASSERT_EQ(files.size(), 2u);
  EXPECT_EQ(files[0].size, 9u);
  EXPECT_EQ(files[0].sha256, sha);
  EXPECT_EQ(files[0].git_sha1, "");
  EXPECT_EQ(files[1].git_sha1, git);
}

TEST(Repository, what_is_no_listing_and_paths_that_lead_out_are_refused) {
  for (const char* text :
       {"", "{}", "<html>", "[1]", "[{}]", R"([{"path": 1}])", R"([{"path": "m.gguf"}])",
        R"([{"path": "m.gguf", "size": -1}])", R"([{"path": "m.gguf", "size": 1, "lfs": {}}])"})
    EXPECT_SAYS(message_of<Error>([&] { parse_listing(text, "u/r"); }), "u/r");
  for (const char* path : {"../m.gguf", "/m.gguf", "a/../m.gguf", "a//m.gguf", "./m.gguf",
                           "a\\\\m.gguf", "c:m.gguf", "a\\nm.gguf", "a\\u0000.gguf", "../.m.gguf"})
    EXPECT_SAYS(message_of<Error>([&] {
                  parse_listing(fmt::format(R"([{{"path": "{}", "size": 1}}])", path), "u/r");
                }),
                "leads out of a folder");
}

TEST(PartFile, goes_on_from_what_is_there_and_knows_its_checksum) {
  TemporaryFile place;
  const RepositoryFile sha256{
      .path = "m",
      .size = 3,
      .sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"};
  const RepositoryFile git{
      .path = "m", .size = 3, .git_sha1 = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f"};
  for (const RepositoryFile& file : {sha256, git}) {
    place.write("");
    {
      PartFile part(place.path(), file, [](uint64_t) {});
      part.append("ab");
      EXPECT_FALSE(part.finish());
    }
    PartFile part(place.path(), file, [](uint64_t) {});
    EXPECT_EQ(part.size(), 2u);
    EXPECT_THROW(part.append("cd"), Error);
    part.append("c");
    EXPECT_TRUE(part.finish());
    EXPECT_EQ(read_file(place.path()), "abc");
    EXPECT_TRUE(is_whole(place.path(), file, [](uint64_t) {}));
    part.restart();
    part.append("abd");
    EXPECT_FALSE(part.finish());
    EXPECT_FALSE(is_whole(place.path(), file, [](uint64_t) {}));
  }
}

TEST(Http, an_endpoint_is_a_url_and_a_token_one_word) {
  for (const char* wrong :
       {"", "hub", "ftp://hub", "file:///etc", "http://", "http://h?x", "http://a b"})
    EXPECT_SAYS(message_of<std::invalid_argument>([&] { Http(wrong, "", 1); }), "HF_ENDPOINT");
  EXPECT_SAYS(message_of<std::invalid_argument>([] { Http("http://h", "a\nb: c", 1); }),
              "HF_TOKEN");
  EXPECT_EQ(Http("http://h/base/", "", 1).endpoint(), "http://h/base");
  EXPECT_EQ(url_path("a b/ü%.gguf"), "a%20b/%C3%BC%25.gguf");
}

}  // namespace
}  // namespace ms
