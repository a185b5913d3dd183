// scripted_model.hpp: for tests only: a model that says what it is told to.
//
// A Llama of one layer whose weights are zero but for the embedding, one-hot, and the output, which
// gives each token one likely successor. Its tokens are the printable characters of ASCII, a blank,
// a line feed, the four bytes of U+1F600, <s> and </s>.
#pragma once
#include <cmath>
#include <string>
#include <string_view>
#include <vector>

#include "formats/gguf_builder.hpp"

namespace ms {

struct Script {
  std::string chain;      // each byte is followed by the next; every byte stands in it once
  float confidence = 20;  // the successor's logit; the others' are 0
  uint32_t context = 64;  // positions
  bool add_bos = false;   // to texts
  float last_norm = 1;    // its weights
  std::string chat_template = {};
  std::string rope_scaling = {};  // its type and factor: "linear 2"
};

// In a chain: the beginning and the end of a text, and a row of the embedding that is no token.
inline constexpr char script_bos = 2, script_eos = 4, script_unnamed = 5;
inline constexpr std::string_view script_bytes = " \n\xF0\x9F\x98\x80\2\4\5";  // ids 94 to 102

inline uint32_t script_token(char byte) {
  return byte > ' ' && byte < 127 ? uint32_t(byte - '!') : 94 + uint32_t(script_bytes.find(byte));
}

inline std::vector<uint32_t> script_tokens(std::string_view bytes) {
  std::vector<uint32_t> tokens;
  for (const char byte : bytes) tokens.push_back(script_token(byte));
  return tokens;
}

inline std::string scripted_model(const Script& script) {
  constexpr uint32_t vocab = 103, dim = 128, ffn = 64;
  std::vector<float> embedding(vocab * dim), output(vocab * dim);
  // A one-hot row has a root mean square of 1 / sqrt(dim), which the norm takes it by.
  const float weight = script.confidence / std::sqrt(float(dim));
  std::vector<uint32_t> next(vocab);
  for (uint32_t i = 0; i < vocab; ++i) next[i] = i;
  for (size_t i = 0; i + 1 < script.chain.size(); ++i)
    next[script_token(script.chain[i])] = script_token(script.chain[i + 1]);
  for (uint32_t i = 0; i < vocab; ++i)
    embedding[i * dim + i] = 1, output[next[i] * dim + i] = weight;

  // As GPT-2 writes bytes: printable ones as they are.
  std::vector<std::string> names;
  for (char byte = '!'; byte <= '~'; ++byte) names.push_back({byte});
  for (const char* name : {"Ġ", "Ċ", "ð", "Ł", "ĺ", "Ģ", "<s>", "</s>"}) names.push_back(name);
  std::vector<int32_t> kinds(names.size(), 1);
  kinds[script_token(script_bos)] = kinds[script_token(script_eos)] = 3;

  GgufBuilder file;
  file.set("general.architecture", "llama")
      .set("llama.embedding_length", dim)
      .set("llama.block_count", 1u)
      .set("llama.attention.head_count", 2u)
      .set("llama.feed_forward_length", ffn)
      .set("llama.context_length", script.context)
      .set("llama.attention.layer_norm_rms_epsilon", 1e-9f)
      .set("tokenizer.ggml.model", "gpt2")
      .set("tokenizer.ggml.pre", "gpt-2")
      .set("tokenizer.ggml.tokens", std::vector<std::string_view>(names.begin(), names.end()))
      .set("tokenizer.ggml.token_type", kinds)
      .set("tokenizer.ggml.merges", std::vector<std::string_view>())
      .set("tokenizer.ggml.bos_token_id", script_token(script_bos))
      .set("tokenizer.ggml.eos_token_id", script_token(script_eos))
      .set("tokenizer.ggml.add_bos_token", script.add_bos);
  if (!script.chat_template.empty()) file.set("tokenizer.chat_template", script.chat_template);

  if (const size_t blank = script.rope_scaling.find(' '); blank != std::string::npos)
    file.set("llama.rope.scaling.type", script.rope_scaling.substr(0, blank))
        .set("llama.rope.scaling.factor", std::stof(script.rope_scaling.substr(blank)));

  const auto add = [&](std::string_view name, std::vector<uint64_t> shape,
                       std::vector<float> values) {
    file.tensor(name, TensorType::f32, shape, std::span<const float>(values));
  };
  const std::vector<float> ones(dim, 1);
  add("token_embd.weight", {vocab, dim}, embedding);
  add("output.weight", {vocab, dim}, output);
  add("output_norm.weight", {dim}, std::vector<float>(dim, script.last_norm));
  add("blk.0.attn_norm.weight", {dim}, ones);
  add("blk.0.ffn_norm.weight", {dim}, ones);
  for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
    add(std::string("blk.0.") + name + ".weight", {dim, dim}, std::vector<float>(dim * dim));
  for (const char* name : {"ffn_gate", "ffn_up"})
    add(std::string("blk.0.") + name + ".weight", {ffn, dim}, std::vector<float>(ffn * dim));
  add("blk.0.ffn_down.weight", {dim, ffn}, std::vector<float>(dim * ffn));
  return file.bytes();
}

}  // namespace ms
