// hugging_face_test.cpp: a folder of safetensors gives the logits of the GGUF file that it is made
// from here.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "base/half.hpp"
#include "base/nmse.hpp"
#include "engine/engine.hpp"
#include "formats/gguf_builder.hpp"
#include "formats/safetensors_builder.hpp"
#include "text/test_data.hpp"

namespace ms {
namespace {

using Json = nlohmann::json;

struct Family {
  std::string gguf, here;  // general.architecture, and the name in config.json
  bool permuted;           // rows of q and k
};
const Family families[] = {{"llama", "LlamaForCausalLM", true},
                           {"granite", "GraniteForCausalLM", true},
                           {"qwen2", "Qwen2ForCausalLM", false}};

std::string name_there(std::string name) {
  const std::pair<std::string_view, std::string_view> parts[] = {
      {"blk.", "model.layers."},
      {"token_embd", "model.embed_tokens"},
      {"output_norm", "model.norm"},
      {"attn_norm", "input_layernorm"},
      {"attn_output", "self_attn.o_proj"},
      {"attn_q", "self_attn.q_proj"},
      {"attn_k", "self_attn.k_proj"},
      {"attn_v", "self_attn.v_proj"},
      {"ffn_norm", "post_attention_layernorm"},
      {"ffn_gate", "mlp.gate_proj"},
      {"ffn_up", "mlp.up_proj"},
      {"ffn_down", "mlp.down_proj"}};
  if (name == "output.weight") return "lm_head.weight";
  for (const auto& [gguf, here] : parts)
    if (const size_t at = name.find(gguf); at != name.npos) name.replace(at, gguf.size(), here);
  return name;
}

// The rows of each head from pairs (2i, 2i + 1) to pairs (i, i + half).
std::string halves(std::string data, uint64_t rows, uint64_t head_rows) {
  const std::string pairs = data;
  const uint64_t bytes = data.size() / rows, half = head_rows / 2;
  for (uint64_t row = 0; row < rows; ++row) {
    const uint64_t head = row / head_rows * head_rows, in_head = row % head_rows;
    std::memcpy(data.data() + (head + in_head % 2 * half + in_head / 2) * bytes,
                pairs.data() + row * bytes, bytes);
  }
  return data;
}

// The weights as they are where their type is one of safetensors', else decoded to f32.
void convert(const ModelFile& file, const ModelFolder& folder, size_t shards) {
  const Family& family =
      *std::ranges::find(families, file.get_string("general.architecture"), &Family::gguf);
  const auto key = [&](std::string_view name) { return family.gguf + "." + std::string(name); };
  const uint64_t head = file.find_uint(key("attention.key_length"))
                            .value_or(file.get_uint(key("embedding_length")) /
                                      file.get_uint(key("attention.head_count")));
  Json config = {{"architectures", {family.here}},
                 {"max_position_embeddings", file.get_uint(key("context_length"))},
                 {"hidden_size", file.get_uint(key("embedding_length"))},
                 {"intermediate_size", file.get_uint(key("feed_forward_length"))},
                 {"num_hidden_layers", file.get_uint(key("block_count"))},
                 {"num_attention_heads", file.get_uint(key("attention.head_count"))},
                 {"num_key_value_heads", file.get_uint(key("attention.head_count_kv"))},
                 {"head_dim", head},
                 {"rms_norm_eps", file.get_float(key("attention.layer_norm_rms_epsilon"))},
                 {"rope_theta", file.get_float(key("rope.freq_base"))},
                 {"tie_word_embeddings", file.find_tensor("output.weight") == nullptr}};
  if (family.gguf == "granite")
    config.update({{"embedding_multiplier", file.get_float("granite.embedding_scale")},
                   {"residual_multiplier", file.get_float("granite.residual_scale")},
                   {"attention_multiplier", file.get_float("granite.attention.scale")},
                   {"logits_scaling", file.get_float("granite.logit_scale")}});
  folder.write("config.json", config.dump());

  std::vector<SafetensorsBuilder> builders(shards);
  Json map = Json::object();
  size_t next = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    std::string_view dtype = "F32";
    std::string data(tensor.elements() * sizeof(float), '\0');
    if (tensor.type == TensorType::f16 || tensor.type == TensorType::bf16) {
      dtype = tensor.type == TensorType::f16 ? "F16" : "BF16";
      data.assign(reinterpret_cast<const char*>(tensor.data.data()), tensor.data.size());
    } else {
      std::vector<float> values(tensor.elements());
      decode(tensor.type, tensor.data, values);
      std::memcpy(data.data(), values.data(), data.size());
    }
    const bool turned = tensor.name.find("attn_q") != tensor.name.npos ||
                        tensor.name.find("attn_k") != tensor.name.npos;
    // A bias has the rows as its elements.
    if (family.permuted && turned) data = halves(data, tensor.shape.front(), head);
    const std::string name = name_there(std::string(tensor.name));
    map[name] = fmt::format("part{}.safetensors", next % shards);
    builders[next++ % shards].tensor(name, dtype, tensor.shape, std::as_bytes(std::span(data)));
  }
  if (shards == 1) return folder.write("model.safetensors", builders[0].bytes(1));
  for (size_t i = 0; i < shards; ++i)
    folder.write(fmt::format("part{}.safetensors", i), builders[i].bytes(1 + i));
  folder.write("model.safetensors.index.json", Json{{"weight_map", map}}.dump());
}

std::vector<float> logits_of(const std::filesystem::path& model, std::span<const uint32_t> tokens) {
  std::vector<uint32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0u);
  const EngineOptions options{
      .model = model,
      .device = {.cache = MS_BINARY_DIR "/pipelines"},
      .options = {.context = uint32_t(tokens.size()), .kv_type = KvType::f32}};
  return Engine(options).logits(tokens, rows, uint32_t(tokens.size()));
}

void expect_exact(std::span<const float> values, const std::filesystem::path& exact_file) {
  const std::string bytes = read_file(exact_file);
  std::vector<float> exact(bytes.size() / sizeof(float));
  std::memcpy(exact.data(), bytes.data(), bytes.size());
  ASSERT_EQ(values.size(), exact.size());
  EXPECT_LT(nmse(values, exact), 1e-6);
}

TEST(HuggingFaceFolder, of_a_real_model_gives_the_exact_logits) {
  const auto folder = shared_folder() / "models/tales-31m", golden = shared_folder() / "golden";
  for (const auto& path : {folder / "model.safetensors", golden / "tales-31m-f16.json"})
    if (!exists(path)) GTEST_SKIP() << path << " is not there";
  const std::vector<uint32_t> tokens = read_json(golden / "tales-31m-f16.json")["tokens"];
  expect_exact(logits_of(folder, tokens), golden / "tales-31m-f16.exact.f32");
}

class ConvertedFolder : public testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Models, ConvertedFolder,
                         testing::Values("tiny-qwen2", "tiny-granite", "tiny-f16", "tiny-bf16"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(ConvertedFolder, gives_the_logits_of_the_gguf_file) {
  const std::filesystem::path ours = MS_SOURCE_DIR "/tests/golden";
  const auto golden = (exists(ours / (GetParam() + ".gguf")) ? ours : shared_folder() / "golden");
  const auto path = golden / (GetParam() + ".gguf");
  if (!exists(path)) GTEST_SKIP() << path << " is not there";
  const ModelFile file = open_model(path);
  const std::vector<uint32_t> tokens = read_json(golden / (GetParam() + ".json"))["tokens"];
  std::vector<float> one_file;
  for (const size_t shards : {1, 3}) {
    const ModelFolder folder;
    convert(file, folder, shards);
    const std::vector<float> values = logits_of(folder.path(), tokens);
    expect_exact(values, golden / (GetParam() + ".exact.f32"));
    if (shards == 1) one_file = values;
    EXPECT_EQ(values, one_file);
  }
  // The same rows in the same order: the same bits.
  if (GetParam() == "tiny-qwen2") {
    GgufBuilder builder;
    for (const auto& [key, value] : file.metadata())
      std::visit(
          [&]<class T>(const T& held) {
            if constexpr (!std::is_same_v<T, ModelFile::Array>) builder.set(key, held);
          },
          value);
    for (const TensorInfo& tensor : file.tensors()) {
      std::vector<float> values(tensor.elements());
      decode(tensor.type, tensor.data, values);
      builder.tensor(tensor.name, TensorType::f32, tensor.shape, values);
    }
    const TemporaryFile decoded(builder.bytes());
    EXPECT_EQ(logits_of(decoded.path(), tokens), one_file);
  }
}

}  // namespace
}  // namespace ms
