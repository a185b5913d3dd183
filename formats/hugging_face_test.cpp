// hugging_face_test.cpp: folders as from Hugging Face: what they are translated to, and what is
// refused.
#include "formats/hugging_face.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.hpp"
#include "base/test_errors.hpp"
#include "formats/safetensors_builder.hpp"

namespace ms {
namespace {

// A folder to be spoilt: a Llama of one layer, without a tokenizer.
struct Folder {
  ModelFolder folder;
  Json config = {{"architectures", {"LlamaForCausalLM"}},
                 {"model_type", "llama"},
                 {"hidden_act", "silu"},
                 {"hidden_size", 8},
                 {"intermediate_size", 12},
                 {"max_position_embeddings", 64},
                 {"num_attention_heads", 2},
                 {"num_hidden_layers", 1},
                 {"num_key_value_heads", 1},
                 {"rms_norm_eps", 1e-5},
                 {"rope_theta", 500000.0},
                 {"tie_word_embeddings", false},
                 {"vocab_size", 4}};
  std::map<std::string, std::vector<uint64_t>> tensors = {
      {"model.embed_tokens.weight", {4, 8}},
      {"model.norm.weight", {8}},
      {"lm_head.weight", {4, 8}},
      {"model.layers.0.input_layernorm.weight", {8}},
      {"model.layers.0.self_attn.q_proj.weight", {8, 8}},
      {"model.layers.0.self_attn.k_proj.weight", {4, 8}},
      {"model.layers.0.self_attn.v_proj.weight", {4, 8}},
      {"model.layers.0.self_attn.o_proj.weight", {8, 8}},
      {"model.layers.0.post_attention_layernorm.weight", {8}},
      {"model.layers.0.mlp.gate_proj.weight", {12, 8}},
      {"model.layers.0.mlp.up_proj.weight", {12, 8}},
      {"model.layers.0.mlp.down_proj.weight", {8, 12}},
      {"model.layers.0.self_attn.rotary_emb.inv_freq", {2}}};

  // All values of a tensor are its number, counted in the order of names.
  static void add(SafetensorsBuilder& builder, const std::string& name,
                  const std::vector<uint64_t>& shape, float value) {
    uint64_t size = 1;
    for (const uint64_t n : shape) size *= n;
    builder.tensor(name, shape, std::vector<float>(size, value));
  }
  void write_config() const { folder.write("config.json", config.dump()); }
  void write_tensors(size_t spaces = 0) const {
    SafetensorsBuilder builder;
    float value = 0;
    for (const auto& [name, shape] : tensors) add(builder, name, shape, ++value);
    folder.write("model.safetensors", builder.bytes(spaces));
  }
  ModelFile open() const {
    write_config();
    if (!exists(folder / "model.safetensors.index.json")) write_tensors();
    return open_model(folder.path());
  }
  std::string refusal() const {
    return message_of<Error>([&] { open(); });
  }
};

// What is said of a folder that was spoilt so.
std::string refusal(const std::function<void(Folder&)>& spoil) {
  Folder folder;
  spoil(folder);
  return folder.refusal();
}

float first_value(const ModelFile& file, std::string_view name) {
  const TensorInfo* tensor = file.find_tensor(name);
  if (tensor == nullptr) return NAN;
  std::vector<float> values(tensor->elements());
  decode(tensor->type, tensor->data, values);
  return values.at(0);
}

TEST(HuggingFace, llama_becomes_metadata_and_names_of_gguf) {
  const Folder folder;
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_string("general.architecture"), "llama");
  EXPECT_EQ(file.get_string("general.name"), folder.folder.path().filename().string());
  EXPECT_EQ(file.get_uint("llama.context_length"), 64u);
  EXPECT_EQ(file.get_uint("llama.embedding_length"), 8u);
  EXPECT_EQ(file.get_uint("llama.feed_forward_length"), 12u);
  EXPECT_EQ(file.get_uint("llama.block_count"), 1u);
  EXPECT_EQ(file.get_uint("llama.attention.head_count"), 2u);
  EXPECT_EQ(file.get_uint("llama.attention.head_count_kv"), 1u);
  EXPECT_EQ(file.get_uint("llama.attention.key_length"), 4u);
  EXPECT_EQ(file.get_uint("llama.rope.dimension_count"), 4u);
  EXPECT_EQ(file.get_float("llama.rope.freq_base"), 500000);
  EXPECT_EQ(file.get_float("llama.attention.layer_norm_rms_epsilon"), 1e-5);
  EXPECT_EQ(file.find_bool("llama.rope.interleaved"), false);
  EXPECT_EQ(file.find("tokenizer.ggml.model"), nullptr);

  ASSERT_EQ(file.tensors().size(), 12u);  // without inv_freq
  EXPECT_EQ(file.find_tensor("blk.0.attn_k.weight")->shape, (std::vector<uint64_t>{4, 8}));
  const char* names[] = {
      "output.weight",         "token_embd.weight",     "blk.0.attn_norm.weight",
      "blk.0.ffn_down.weight", "blk.0.ffn_gate.weight", "blk.0.ffn_up.weight",
      "blk.0.ffn_norm.weight", "blk.0.attn_k.weight",   "blk.0.attn_output.weight",
      "blk.0.attn_q.weight"};  // in the order of the names there
  for (size_t i = 0; i < std::size(names); ++i)
    EXPECT_EQ(first_value(file, names[i]), float(i + 1)) << names[i];
}

TEST(HuggingFace, tensors_may_lie_at_any_address) {
  Folder folder;
  folder.write_config();
  for (size_t spaces = 0; spaces < 4; ++spaces) {
    folder.write_tensors(spaces);
    EXPECT_EQ(first_value(open_model(folder.folder.path()), "token_embd.weight"), 2);
  }
}

TEST(HuggingFace, what_a_config_leaves_out_has_the_usual_value) {
  Folder folder;
  for (const char* key :
       {"num_key_value_heads", "rms_norm_eps", "rope_theta", "tie_word_embeddings"})
    folder.config.erase(key);
  folder.config["head_dim"] = nullptr;
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_uint("llama.attention.head_count_kv"), 2u);
  EXPECT_EQ(file.get_uint("llama.attention.key_length"), 4u);
  EXPECT_EQ(file.get_float("llama.attention.layer_norm_rms_epsilon"), 1e-6);
  EXPECT_EQ(file.get_float("llama.rope.freq_base"), 10000);
}

TEST(HuggingFace, an_output_that_is_the_embedding_is_left_out) {
  Folder folder;
  folder.config["tie_word_embeddings"] = true;
  EXPECT_EQ(folder.open().find_tensor("output.weight"), nullptr);
  folder.tensors.erase("lm_head.weight");
  EXPECT_EQ(folder.open().tensors().size(), 11u);
  folder.config["tie_word_embeddings"] = false;
  EXPECT_SAYS(folder.refusal(), "there is no tensor \"lm_head.weight\"");
}

TEST(HuggingFace, biases_keep_their_names) {
  Folder folder;
  folder.config["architectures"] = {"Qwen2ForCausalLM"};
  folder.tensors["model.layers.0.self_attn.q_proj.bias"] = {8};
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_string("general.architecture"), "qwen2");
  EXPECT_NE(file.find_tensor("blk.0.attn_q.bias"), nullptr);
}

TEST(HuggingFace, mistral_is_a_llama_with_a_window) {
  Folder folder;
  folder.config["architectures"] = {"MistralForCausalLM"};
  folder.config["sliding_window"] = nullptr;
  EXPECT_EQ(folder.open().find("llama.attention.sliding_window"), nullptr);
  folder.config["sliding_window"] = 16;
  EXPECT_EQ(folder.open().get_uint("llama.attention.sliding_window"), 16u);
}

TEST(HuggingFace, granite_has_its_scales) {
  Folder folder;
  folder.config["architectures"] = {"GraniteForCausalLM"};
  folder.config.update({{"embedding_multiplier", 12.0},
                        {"residual_multiplier", 0.25},
                        {"attention_multiplier", 0.5},
                        {"logits_scaling", 8.0}});
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_float("granite.embedding_scale"), 12);
  EXPECT_EQ(file.get_float("granite.residual_scale"), 0.25);
  EXPECT_EQ(file.get_float("granite.attention.scale"), 0.5);
  EXPECT_EQ(file.get_float("granite.logit_scale"), 8);
}

// The formula of Llama 3.1 by wavelengths, as it was published.
TEST(HuggingFace, the_scaling_of_llama_3_becomes_factors) {
  Folder folder;
  folder.config["head_dim"] = 64;
  folder.config["rope_scaling"] = {{"rope_type", "llama3"},
                                   {"factor", 8.0},
                                   {"low_freq_factor", 1.0},
                                   {"high_freq_factor", 4.0},
                                   {"original_max_position_embeddings", 8192}};
  const ModelFile file = folder.open();
  const TensorInfo& tensor = *file.find_tensor("rope_freqs.weight");
  EXPECT_EQ(tensor.shape, std::vector<uint64_t>{32});
  std::vector<float> factors(32);
  decode(tensor.type, tensor.data, factors);
  size_t between = 0;
  for (int i = 0; i < 32; ++i) {
    const double frequency = std::pow(500000.0, -i / 32.0), length = 2 * M_PI / frequency;
    double scaled = frequency;
    if (length > 8192) scaled = frequency / 8;
    if (length >= 2048 && length <= 8192) {
      const double smooth = (8192 / length - 1) / (4.0 - 1);
      scaled = (1 - smooth) * frequency / 8 + smooth * frequency;
      ++between;
    }
    EXPECT_NEAR(factors[i], frequency / scaled, 1e-5) << i;
  }
  EXPECT_GT(between, 0u);
  EXPECT_SAYS(refusal([](Folder& f) {
                f.config["rope_scaling"] = {{"rope_type", "llama3"}};
              }),
              "config.json: \"rope_scaling\": \"factor\" is missing");
}

TEST(HuggingFace, other_scalings_become_keys_or_are_refused) {
  Folder folder;
  folder.config["rope_scaling"] = {{"type", "linear"}, {"factor", 2.0}};
  EXPECT_EQ(folder.open().get_string("llama.rope.scaling.type"), "linear");
  EXPECT_EQ(folder.open().get_float("llama.rope.scaling.factor"), 2);
  folder.config["rope_scaling"] = {
      {"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}};
  EXPECT_EQ(folder.open().get_string("llama.rope.scaling.type"), "yarn");
  EXPECT_EQ(folder.open().get_uint("llama.rope.scaling.original_context_length"), 32u);
  folder.config["rope_scaling"]["beta_fast"] = 16;
  EXPECT_SAYS(folder.refusal(), "\"beta_fast\" is not 32");
  folder.config["rope_scaling"] = {{"rope_type", "longrope"}};
  EXPECT_SAYS(folder.refusal(), "\"longrope\" is not known here");
  // As transformers 5 writes it.
  folder.config["rope_scaling"] = nullptr;
  folder.config["rope_theta"] = nullptr;
  folder.config["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 12345.0}};
  EXPECT_EQ(folder.open().get_float("llama.rope.freq_base"), 12345);
}

TEST(HuggingFace, gemma_3_has_norms_from_one_and_two_ropes) {
  Folder folder;
  folder.config = {{"architectures", {"Gemma3ForCausalLM"}},
                   {"head_dim", 4},
                   {"hidden_activation", "gelu_pytorch_tanh"},
                   {"hidden_size", 8},
                   {"intermediate_size", 12},
                   {"max_position_embeddings", 64},
                   {"num_attention_heads", 2},
                   {"num_hidden_layers", 7},
                   {"num_key_value_heads", 1},
                   {"query_pre_attn_scalar", 4},
                   {"rope_theta", 1e6},
                   {"rope_local_base_freq", 20000.0},
                   {"sliding_window", 32}};
  folder.tensors = {{"model.embed_tokens.weight", {4, 8}},
                    {"model.layers.0.post_attention_layernorm.weight", {8}},
                    {"model.layers.0.post_feedforward_layernorm.weight", {8}},
                    {"model.layers.0.pre_feedforward_layernorm.weight", {8}},
                    {"model.layers.0.self_attn.q_norm.weight", {4}},
                    {"model.norm.weight", {8}}};
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_float("gemma3.rope.freq_base"), 1e6);
  EXPECT_EQ(file.get_float("gemma3.rope.freq_base_swa"), 20000);
  EXPECT_EQ(file.get_uint("gemma3.attention.sliding_window"), 32u);
  EXPECT_EQ(file.get_uint("gemma3.attention.sliding_window_pattern"), 6u);
  const char* names[] = {"token_embd.weight",          "blk.0.post_attention_norm.weight",
                         "blk.0.post_ffw_norm.weight", "blk.0.ffn_norm.weight",
                         "blk.0.attn_q_norm.weight",   "output_norm.weight"};
  for (size_t i = 0; i < std::size(names); ++i)
    EXPECT_EQ(first_value(file, names[i]), float(i + 1 + (i > 0))) << names[i];

  Json types = Json::array();
  for (int i = 0; i < 7; ++i) types.push_back(i == 5 ? "full_attention" : "sliding_attention");
  folder.config["layer_types"] = types;
  EXPECT_EQ(folder.open().get_uint("gemma3.attention.sliding_window_pattern"), 6u);
  folder.config["layer_types"][2] = "full_attention";
  EXPECT_EQ(folder.open().get_uint("gemma3.attention.sliding_window_pattern"), 3u);
  folder.config["layer_types"][3] = "full_attention";
  EXPECT_SAYS(folder.refusal(), "\"layer_types\" has \"full_attention\" for layer 3");
  folder.config["layer_types"].erase(3);
  EXPECT_SAYS(folder.refusal(), "\"layer_types\" is no list of 7 layers");
  folder.config.erase("layer_types");
  folder.config["query_pre_attn_scalar"] = 16;
  EXPECT_EQ(folder.open().get_float("gemma3.attention.scale"), 0.25);
  folder.config["query_pre_attn_scalar"] = 0;
  EXPECT_SAYS(folder.refusal(), "\"query_pre_attn_scalar\" is not above 0");
  folder.config.erase("query_pre_attn_scalar");
  EXPECT_EQ(folder.open().get_float("gemma3.attention.scale"), 0.5);
  folder.config["final_logit_softcapping"] = 30.0;
  EXPECT_SAYS(folder.refusal(), "\"final_logit_softcapping\" is not known here");
}

TEST(HuggingFace, bert_has_its_pooling_in_a_folder_of_its_own) {
  Folder folder;
  folder.config = {{"architectures", {"BertModel"}},
                   {"hidden_act", "gelu"},
                   {"hidden_size", 8},
                   {"intermediate_size", 12},
                   {"max_position_embeddings", 64},
                   {"num_attention_heads", 2},
                   {"num_hidden_layers", 1},
                   {"layer_norm_eps", 1e-12},
                   {"position_embedding_type", "absolute"}};
  folder.tensors = {{"embeddings.LayerNorm.bias", {8}},
                    {"embeddings.position_embeddings.weight", {64, 8}},
                    {"embeddings.position_ids", {1, 64}},
                    {"embeddings.token_type_embeddings.weight", {2, 8}},
                    {"embeddings.word_embeddings.weight", {4, 8}},
                    {"encoder.layer.0.attention.output.LayerNorm.weight", {8}},
                    {"encoder.layer.0.attention.self.query.bias", {8}},
                    {"encoder.layer.0.intermediate.dense.weight", {12, 8}},
                    {"encoder.layer.0.output.LayerNorm.bias", {8}},
                    {"encoder.layer.0.output.dense.weight", {8, 12}},
                    {"pooler.dense.weight", {8, 8}}};
  std::filesystem::create_directory(folder.folder / "1_Pooling");
  folder.folder.write("1_Pooling/config.json", R"({"pooling_mode_cls_token": false,
      "pooling_mode_mean_tokens": true, "word_embedding_dimension": 8})");
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_uint("bert.pooling_type"), 1u);
  EXPECT_EQ(file.get_float("bert.attention.layer_norm_epsilon"), 1e-12);
  EXPECT_EQ(file.find_bool("bert.attention.causal"), false);
  EXPECT_EQ(file.get_uint("tokenizer.ggml.token_type_count"), 2u);
  for (const char* name :
       {"token_embd.weight", "token_embd_norm.bias", "position_embd.weight", "token_types.weight",
        "blk.0.attn_output_norm.weight", "blk.0.attn_q.bias", "blk.0.ffn_up.weight",
        "blk.0.layer_output_norm.bias", "blk.0.ffn_down.weight"})
    EXPECT_NE(file.find_tensor(name), nullptr) << name;
  EXPECT_EQ(file.tensors().size(), 9u);
  folder.folder.write("1_Pooling/config.json", R"({"pooling_mode_max_tokens": true})");
  EXPECT_SAYS(folder.refusal(), "\"pooling_mode_max_tokens\" is not known here");
  folder.folder.write("1_Pooling/config.json", "{}");
  const auto longest = [&](const char* tokens) {
    folder.folder.write("sentence_bert_config.json",
                        fmt::format("{{\"max_seq_length\": {}}}", tokens));
    return folder.open().find_uint("bert.max_seq_length");
  };
  EXPECT_EQ(longest("null"), std::nullopt);
  EXPECT_EQ(longest("16"), 16u);
  EXPECT_EQ(longest("512"), 64u);  // there are no more positions
  folder.folder.write("sentence_bert_config.json", R"({"max_seq_length": 2})");
  EXPECT_SAYS(folder.refusal(), "\"max_seq_length\" is 2, want 3 or more");
}

TEST(HuggingFace, the_vocabulary_has_as_many_tokens_as_the_embedding_has_rows) {
  Folder folder;
  folder.config["vocab_size"] = 5;
  EXPECT_SAYS(folder.refusal(),
              "\"vocab_size\" is 5, but the tensor \"model.embed_tokens.weight\" has 4 rows");
  folder.config.erase("vocab_size");
  folder.open();
}

TEST(HuggingFace, a_folder_that_is_no_model_is_refused) {
  const ModelFolder folder;
  EXPECT_SAYS(message_of<Error>([&] { open_model(folder.path()); }), "has no config.json");
  std::filesystem::create_symlink("loop", folder / "loop");
  EXPECT_SAYS(message_of<Error>([&] { open_model(folder / "loop"); }), "symbolic links");
  folder.write("model.safetensors", SafetensorsBuilder().bytes());
  EXPECT_SAYS(message_of<Error>([&] { open_model(folder / "model.safetensors"); }),
              "give the folder that holds it");
  for (const char* config : {"", "{", "[1]", "3", "{} x"}) {
    folder.write("config.json", config);
    EXPECT_SAYS(message_of<Error>([&] { open_model(folder.path()); }),
                (folder / "config.json").string());
  }
}

TEST(HuggingFace, a_file_that_cannot_be_reached_is_named_with_the_reason) {
  for (const char* name : {"config.json", "model.safetensors", "model.safetensors.index.json",
                           "tokenizer.json", "tokenizer_config.json", "vocab.txt"}) {
    const Folder folder;
    folder.write_config();
    if (!std::string_view(name).starts_with("model.")) folder.write_tensors();
    std::filesystem::remove(folder.folder / name);
    std::filesystem::create_symlink(name, folder.folder / name);
    const std::string message = message_of<Error>([&] { open_model(folder.folder.path()); });
    EXPECT_SAYS(message, (folder.folder / name).string());
    EXPECT_SAYS(message, "symbolic links");
  }
}

TEST(HuggingFace, a_config_of_something_else_is_refused) {
  const auto with = [](const char* key, const Json& value) {
    return refusal([&](Folder& f) { f.config[key] = value; });
  };
  EXPECT_SAYS(with("architectures", {"T5ForConditionalGeneration"}),
              "\"T5ForConditionalGeneration\" is not read; there are LlamaForCausalLM, Mistral");
  EXPECT_SAYS(with("architectures", nullptr), "\"architectures\" is missing");
  EXPECT_SAYS(with("architectures", {1}), "is no list of one name");
  EXPECT_SAYS(with("hidden_act", "relu"), "\"hidden_act\" is \"relu\"; here only silu is known");
  EXPECT_SAYS(with("quantization_config", Json::object()), "only F32, F16 and BF16 are read");
  EXPECT_SAYS(with("pretraining_tp", 2), "\"pretraining_tp\" is 2; here only 1 is known");
}

TEST(HuggingFace, numbers_that_no_model_has_are_refused) {
  const auto with = [](const char* key, const Json& value) {
    return refusal([&](Folder& f) { f.config[key] = value; });
  };
  EXPECT_SAYS(with("hidden_size", nullptr), "config.json: \"hidden_size\" is missing");
  EXPECT_SAYS(with("hidden_size", -8), "\"hidden_size\" is -8; a whole number");
  EXPECT_SAYS(with("hidden_size", 8.5), "\"hidden_size\" is 8.5; a whole number");
  EXPECT_SAYS(with("hidden_size", "8"), "\"hidden_size\" is string; a whole number");
  EXPECT_SAYS(with("num_attention_heads", 0), "\"num_attention_heads\" is 0");
  EXPECT_SAYS(with("head_dim", 0), "RoPE turns 0 of the 0 dimensions");
  EXPECT_SAYS(with("partial_rotary_factor", 2), "RoPE turns 8 of the 4 dimensions");
  EXPECT_SAYS(with("rms_norm_eps", "x"), "\"rms_norm_eps\" is string, not a number");
  EXPECT_SAYS(with("rope_scaling", 3), "\"rope_scaling\": it is number, not an object");
  EXPECT_SAYS(with("tie_word_embeddings", 1), "\"tie_word_embeddings\" is number, not a boolean");
}

TEST(HuggingFace, json_that_repeats_a_key_or_nests_deeply_is_refused) {
  const Folder folder;
  folder.write_tensors();
  const auto refusal_of = [&](std::string config) {
    folder.folder.write("config.json", config);
    return message_of<Error>([&] { open_model(folder.folder.path()); });
  };
  EXPECT_SAYS(refusal_of(R"({"hidden_size": 1, "hidden_size": 2})"),
              "the key \"hidden_size\" stands twice");
  EXPECT_SAYS(refusal_of(R"({"a": [{"b": 1, "b": 2}]})"), "the key \"b\" stands twice");
  EXPECT_SAYS(refusal_of("{\"a\":" + std::string(1'000'000, '[')), "nested deeper than 64");
  EXPECT_SAYS(refusal_of(std::string((16 << 20) + 1, ' ')), "16777216 are allowed");
  EXPECT_SAYS(refusal_of(R"({"a": 1e999})"), "config.json");
}

TEST(HuggingFace, tensors_that_no_such_model_has_are_refused) {
  for (const char* name :
       {"model.layers.0.self_attn.z_proj.weight", "model.layers.x.input_layernorm.weight",
        "model.layers.00.input_layernorm.weight", "model.layers.0input_layernorm.weight",
        "model.layers.99999999999.input_layernorm.weight", "model.layers.0.input_layernorm",
        "model.layers..input_layernorm.weight", "something", ""}) {
    EXPECT_SAYS(refusal([&](Folder& f) { f.tensors[name] = {1}; }), "is none of LlamaForCausalLM")
        << name;
  }
}

TEST(HuggingFace, weights_of_another_type_are_refused) {
  const Folder folder;
  folder.write_config();
  const auto of_type = [&](std::string_view dtype, size_t bytes) {
    folder.folder.write("model.safetensors",
                        SafetensorsBuilder()
                            .tensor("model.norm.weight", dtype, {2},
                                    std::as_bytes(std::span("12345678912345678", bytes)))
                            .bytes());
    return message_of<Error>([&] { open_model(folder.folder.path()); });
  };
  for (const auto& [dtype, bytes] : {std::pair("F64", 16), std::pair("I64", 16), std::pair("U8", 2),
                                     std::pair("F8_E4M3", 2), std::pair("BOOL", 2)})
    EXPECT_SAYS(of_type(dtype, bytes),
                fmt::format("tensor \"model.norm.weight\" is of type {}; F32, F16", dtype));
}

TEST(HuggingFace, other_forms_of_weights_are_not_read) {
  const Folder folder;
  folder.write_config();
  folder.folder.write("pytorch_model.bin", "");
  EXPECT_SAYS(message_of<Error>([&] { open_model(folder.folder.path()); }),
              "neither model.safetensors nor model.safetensors.index.json");
}

// The tensors of a folder over two files, with an index.
struct Shards : Folder {
  Json index = {{"metadata", {{"total_size", 1}}}, {"weight_map", Json::object()}};
  Shards() {
    SafetensorsBuilder first, second;
    float value = 0;
    for (const auto& [name, shape] : tensors) {
      const bool is_first = name.find("mlp") == name.npos;
      add(is_first ? first : second, name, shape, ++value);
      index["weight_map"][name] = is_first ? "a.safetensors" : "b.safetensors";
    }
    folder.write("a.safetensors", first.bytes());
    folder.write("b.safetensors", second.bytes());
  }
  ModelFile open() const {
    write_config();
    folder.write("model.safetensors.index.json", index.dump());
    return open_model(folder.path());
  }
  std::string refusal() const {
    return message_of<Error>([&] { open(); });
  }
};

TEST(HuggingFaceShards, are_read_by_their_index) {
  const ModelFile file = Shards().open();
  EXPECT_EQ(file.tensors().size(), 12u);
  EXPECT_EQ(first_value(file, "token_embd.weight"), 2);
  EXPECT_EQ(first_value(file, "blk.0.ffn_up.weight"), 6);
}

TEST(HuggingFaceShards, names_that_lead_elsewhere_are_refused) {
  for (const char* name : {"../a.safetensors", "/tmp/a.safetensors", "b/a.safetensors",
                           "..\\a.safetensors", "..", "", "a.bin", "/"}) {
    Shards shards;
    shards.index["weight_map"]["lm_head.weight"] = name;
    EXPECT_SAYS(shards.refusal(), "which is no name of a safetensors file") << name;
  }
}

TEST(HuggingFaceShards, a_file_that_is_missing_is_named) {
  const Shards shards;
  std::filesystem::remove(shards.folder / "b.safetensors");
  EXPECT_SAYS(shards.refusal(), (shards.folder / "b.safetensors").string() + ": the index names");
}

TEST(HuggingFaceShards, an_index_that_is_wrong_is_refused) {
  Shards elsewhere;
  elsewhere.index["weight_map"]["lm_head.weight"] = "b.safetensors";
  EXPECT_SAYS(elsewhere.refusal(),
              "tensor \"lm_head.weight\" is in a.safetensors, but the index says b.safetensors");
  Shards silent;
  silent.index["weight_map"].erase("lm_head.weight");
  EXPECT_SAYS(silent.refusal(), "is in a.safetensors, but the index does not have it");
  Shards more;
  more.index["weight_map"]["more"] = "b.safetensors";
  EXPECT_SAYS(more.refusal(), "tensor \"more\" is not in b.safetensors");
  Shards odd;
  odd.index["weight_map"]["lm_head.weight"] = 3;
  EXPECT_SAYS(odd.refusal(), "\"lm_head.weight\" is number, not a string");
  odd.index.erase("weight_map");
  EXPECT_SAYS(odd.refusal(), "\"weight_map\" is missing");
  odd.index["weight_map"] = Json::array();
  EXPECT_SAYS(odd.refusal(), "\"weight_map\": it is array, not an object");
}

TEST(HuggingFaceShards, a_tensor_in_two_files_is_refused) {
  Shards shards;
  SafetensorsBuilder third;
  Folder::add(third, "lm_head.weight", {4, 8}, 1);
  Folder::add(third, "model.layers.0.self_attn.q_proj.bias", {8}, 1);
  shards.folder.write("c.safetensors", third.bytes());
  shards.index["weight_map"]["model.layers.0.self_attn.q_proj.bias"] = "c.safetensors";
  EXPECT_SAYS(shards.refusal(),
              "c.safetensors: tensor \"lm_head.weight\" is in a.safetensors, too");
}

// ---- the tokenizer's files ----

TEST(HuggingFaceTokenizer, tokenizer_json_is_kept_whole_and_names_become_numbers) {
  Folder folder;
  const std::string json = R"({"added_tokens": [{"id": 1, "content": "<s>", "special": true},
      {"id": 2, "content": "</s>", "special": true}], "model": {"vocab": {"a": 0}}})";
  folder.folder.write("tokenizer.json", json);
  folder.folder.write("tokenizer_config.json",
                      R"({"add_bos_token": true, "bos_token": {"content": "<s>"},
                      "eos_token": "</s>", "chat_template": "{{ messages }}"})");
  folder.config["eos_token_id"] = 0;
  folder.folder.write("generation_config.json", R"({"eos_token_id": [2, 0]})");
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_string("tokenizer.huggingface.json"), json);
  EXPECT_EQ(file.get_uint("tokenizer.ggml.bos_token_id"), 1u);
  EXPECT_EQ(file.get_uint("tokenizer.ggml.eos_token_id"), 2u);
  EXPECT_EQ(file.find_bool("tokenizer.ggml.add_bos_token"), true);
  EXPECT_EQ(file.find_bool("tokenizer.ggml.add_eos_token"), std::nullopt);
  EXPECT_EQ(file.find_ints("tokenizer.huggingface.eos_token_ids"), (std::vector<int64_t>{2, 0}));
  EXPECT_EQ(file.get_string("tokenizer.chat_template"), "{{ messages }}");
}

TEST(HuggingFaceTokenizer, numbers_come_from_the_config_where_no_file_has_names) {
  Folder folder;
  folder.folder.write("tokenizer.json", "{}");
  folder.config["bos_token_id"] = 3;
  folder.config["eos_token_id"] = {4, 5};
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_uint("tokenizer.ggml.bos_token_id"), 3u);
  EXPECT_EQ(file.get_uint("tokenizer.ggml.eos_token_id"), 4u);
  // A tokenizer without a bos has none, whatever the model's number is.
  folder.folder.write("tokenizer_config.json", R"({"bos_token": null})");
  EXPECT_EQ(folder.open().find("tokenizer.ggml.bos_token_id"), nullptr);
  folder.folder.write("special_tokens_map.json", R"({"bos_token": "<s>"})");
  EXPECT_EQ(folder.open().find("tokenizer.ggml.bos_token_id"), nullptr);
  folder.folder.write("tokenizer.json",
                      R"({"added_tokens": [{"id": 7, "content": "<s>", "special": true}]})");
  folder.folder.write("tokenizer_config.json", "{}");
  EXPECT_EQ(folder.open().get_uint("tokenizer.ggml.bos_token_id"), 7u);
}

TEST(HuggingFaceTokenizer, the_template_may_be_one_of_a_list_or_a_file) {
  Folder folder;
  folder.folder.write("tokenizer.json", "{}");
  const auto with = [&](const Json& chat_template) {
    folder.folder.write("tokenizer_config.json", Json{{"chat_template", chat_template}}.dump());
  };
  const Json tools = {{"name", "tool_use"}, {"template", "T"}};
  with({{{"name", "tool_use"}, {"template", "T"}}, {{"name", "default"}, {"template", "D"}}});
  EXPECT_EQ(folder.open().get_string("tokenizer.chat_template"), "D");
  with(Json::array({tools}));
  EXPECT_EQ(folder.open().get_string("tokenizer.chat_template"), "T");
  with(Json::array({tools, tools}));
  EXPECT_SAYS(folder.refusal(), "has no template named \"default\"");
  with(7);
  EXPECT_SAYS(folder.refusal(), "\"chat_template\" is number, not a string");
  with("S");
  folder.folder.write("chat_template.jinja", "J");
  EXPECT_EQ(folder.open().get_string("tokenizer.chat_template"), "J");
}

TEST(HuggingFaceTokenizer, vocab_json_and_merges_become_gguf_lists) {
  Folder folder;
  folder.config["model_type"] = "qwen2";
  folder.folder.write("vocab.json", R"({"b": 1, "a": 0, "ab": 2})");
  folder.folder.write("merges.txt", "#version: 0.2\na b\r\n\n");
  folder.folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {
      "3": {"content": "<|im_end|>", "special": true}, "4": {"content": "<tool>"}}})");
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_string("tokenizer.ggml.model"), "gpt2");
  EXPECT_EQ(file.get_string("tokenizer.ggml.pre"), "qwen2");
  EXPECT_EQ(*file.find_strings("tokenizer.ggml.tokens"),
            (std::vector<std::string_view>{"a", "b", "ab", "<|im_end|>", "<tool>"}));
  EXPECT_EQ(file.find_ints("tokenizer.ggml.token_type"), (std::vector<int64_t>{1, 1, 1, 3, 4}));
  EXPECT_EQ(*file.find_strings("tokenizer.ggml.merges"), std::vector<std::string_view>{"a b"});
  folder.folder.write("vocab.json", R"({"b": 1, "a": 0})");
  EXPECT_SAYS(folder.refusal(), "there is no token of number 2");
  folder.folder.write("vocab.json", R"({"b": 1, "a": 0, "ab": 2, "x": 3})");
  EXPECT_SAYS(folder.refusal(), "have one number, 3");
  folder.folder.write("vocab.json", R"({"b": 1e9})");
  EXPECT_SAYS(folder.refusal(), "vocab.json");
  folder.folder.write("vocab.json", R"({"b": 18446744073709551615})");
  EXPECT_SAYS(folder.refusal(), "there is no token of number 0");
  folder.config["model_type"] = "llama";
  EXPECT_SAYS(folder.refusal(), "tokenizers of \"llama\" split text is not known; tokenizer.json");
}

TEST(HuggingFaceTokenizer, vocab_txt_becomes_word_pieces) {
  Folder folder;
  folder.folder.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\nword\n##s\n");
  const ModelFile file = folder.open();
  EXPECT_EQ(file.get_string("tokenizer.ggml.model"), "bert");
  EXPECT_EQ(*file.find_strings("tokenizer.ggml.tokens"),
            (std::vector<std::string_view>{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁word", "s"}));
  EXPECT_EQ(file.find_ints("tokenizer.ggml.token_type"), (std::vector<int64_t>{3, 3, 3, 3, 1, 1}));
  EXPECT_EQ(file.get_uint("tokenizer.ggml.cls_token_id"), 2u);
  EXPECT_EQ(file.get_uint("tokenizer.ggml.seperator_token_id"), 3u);
  EXPECT_EQ(file.get_uint("tokenizer.ggml.unknown_token_id"), 1u);
  folder.folder.write("tokenizer_config.json", R"({"do_lower_case": false})");
  EXPECT_SAYS(folder.refusal(), "\"do_lower_case\" is false, which needs tokenizer.json");
  folder.folder.write("tokenizer_config.json", "{}");
  folder.folder.write("vocab.txt", "word\n");
  EXPECT_SAYS(folder.refusal(), "vocab.txt: there is no token [CLS]");
}

TEST(HuggingFaceTokenizer, files_that_are_damaged_are_named) {
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                           "generation_config.json"}) {
    Folder folder;
    folder.folder.write(name, "{");
    EXPECT_SAYS(folder.refusal(), (folder.folder / name).string());
  }
  Folder folder;
  folder.folder.write("tokenizer.model", "");
  EXPECT_SAYS(folder.refusal(), "tokenizer.model alone; tokenizer.json is needed");
  folder.folder.write("tokenizer.json", R"({"added_tokens": [{"id": -1, "content": "x"}]})");
  EXPECT_SAYS(folder.refusal(), "\"id\" is -1");
  folder.folder.write("tokenizer.json", R"({"added_tokens": {}})");
  EXPECT_SAYS(folder.refusal(), "\"added_tokens\" is no list");
  folder.folder.write("tokenizer.json", "{}");
  folder.folder.write("tokenizer_config.json", R"({"added_tokens_decoder": {"x": {}}})");
  EXPECT_SAYS(folder.refusal(), "\"x\" is no number of a token");
  folder.folder.write("tokenizer_config.json", R"({"bos_token": 3})");
  EXPECT_SAYS(folder.refusal(), "\"bos_token\" is number, not a string");
  folder.folder.write("tokenizer_config.json", "{}");
  folder.folder.write("generation_config.json", R"({"eos_token_id": [1, "x"]})");
  EXPECT_SAYS(folder.refusal(), "\"eos_token_id\" holds something else");
}

}  // namespace
}  // namespace ms
