// targets.cpp: what each reader is given, and what is done with its result.
#include "tests/fuzz/targets.hpp"

#include <algorithm>
#include <array>

#include "base/error.hpp"
#include "formats/gguf.hpp"
#include "formats/gguf_builder.hpp"
#include "formats/hugging_face.hpp"
#include "formats/safetensors.hpp"
#include "formats/safetensors_builder.hpp"
#include "text/chat_template.hpp"
#include "text/tokenizer.hpp"

namespace ms {
namespace {

using Strings = std::vector<std::string>;
using Views = std::vector<std::string_view>;

// Every byte of the tensors, so that a sanitizer sees it; values where there is a decoder.
void read_tensors(const ModelFile& file) {
  for (const TensorInfo& tensor : file.tensors()) {
    const std::vector<std::byte> copy(tensor.data.begin(), tensor.data.end());
    if (!can_decode(tensor.type)) continue;
    std::vector<float> values(tensor.elements());
    decode(tensor.type, tensor.data, values);
  }
}

// Encodes a text, and decodes all tokens.
void use(const Tokenizer& tokenizer) {
  const std::string_view text = "a bc <s><|im_end|>\n\t¡é \xff 12345 [CLS] ▁▁";
  for (const bool special : {false, true}) {
    const auto ids = tokenizer.encode(text, {.add_special = special, .parse_special = special});
    tokenizer.decode(ids, special);
  }
  for (uint32_t token = 0; token < tokenizer.vocab_size(); ++token) tokenizer.piece(token);
}

void gguf(std::string_view bytes) {
  const TemporaryFile file(bytes);
  read_tensors(read_gguf(file.path()));
}

void safetensors(std::string_view bytes) {
  const TemporaryFile file(bytes);
  ModelFile keeper(file.path(), "");
  for (const SafeTensor& tensor : read_safetensors(file.path(), keeper))
    const std::vector<std::byte> copy(tensor.data.begin(), tensor.data.end());
}

// The config of a folder whose weights are sound.
void hugging_face(std::string_view bytes) {
  static const std::string weights =
      SafetensorsBuilder()
          .tensor("model.embed_tokens.weight", {4, 2}, std::vector<float>(8))
          .tensor("model.norm.weight", {2}, {1, 2})
          .bytes();
  const ModelFolder folder;
  folder.write("config.json", bytes);
  folder.write("model.safetensors", weights);
  read_tensors(read_hugging_face(folder.path()));
}

void tokenizer(std::string_view bytes) {
  const TemporaryFile file(bytes);
  use(Tokenizer::from_file(read_gguf(file.path())));
}

void tokenizer_json(std::string_view bytes) {
  const ModelFolder folder;
  folder.write("tokenizer.json", bytes);
  ModelFile file(folder.path(), "");
  read_hugging_face_tokenizer(folder.path(), {"config.json", Json::object()}, file);
  use(Tokenizer::from_file(file));
}

void chat_template(std::string_view bytes) {
  static const auto messages = ChatTemplate::Json::parse(
      R"([{"role": "system", "content": "S"}, {"role": "user", "content": "U"},
          {"role": "assistant", "content": null, "tool_calls": [{"function": {"name": "f",
           "arguments": {"x": [1, 2.5, "é"]}}}]}])");
  ChatTemplate::from_string(bytes, "<s>", "</s>").render(messages, {.tools = messages});
}

Strings no_made() { return {}; }

Strings made_gguf() { return {small_gguf(), GgufBuilder().bytes()}; }

Strings made_safetensors() {
  const std::vector<float> values(6, 1);
  return {SafetensorsBuilder()
              .metadata("format", "pt")
              .tensor("a", {2, 3}, values)
              .tensor("b", "BF16", {3}, std::as_bytes(std::span(values)).first(6))
              .bytes(3)};
}

Strings made_tokenizers() {
  const Views letters = {"a", "b", "c", "bc", "Ġ", "<s>", "<|im_end|>"};
  Views pieces = {"<unk>", "<s>", "</s>", "▁", "a", "▁a", "bc"};
  const Views words = {"[PAD]", "[UNK]", "[CLS]", "[SEP]", "▁a", "▁b", "c"};
  return {GgufBuilder()
              .set("tokenizer.ggml.model", "gpt2")
              .set("tokenizer.ggml.pre", "qwen2")
              .set("tokenizer.ggml.tokens", letters)
              .set("tokenizer.ggml.token_type", std::vector<int32_t>{1, 1, 1, 1, 1, 3, 4})
              .set("tokenizer.ggml.merges", Views{"b c"})
              .set("tokenizer.ggml.bos_token_id", 5u)
              .set("tokenizer.ggml.add_bos_token", true)
              .bytes(),
          GgufBuilder()
              .set("tokenizer.ggml.model", "llama")
              .set("tokenizer.ggml.tokens", pieces)
              .set("tokenizer.ggml.token_type", std::vector<int32_t>{2, 3, 3, 1, 1, 1, 1})
              .set("tokenizer.ggml.scores", std::vector<float>{0, 0, 0, -1, -2, -3, -4})
              .set("tokenizer.ggml.unknown_token_id", 0u)
              .set("tokenizer.ggml.eos_token_id", 2u)
              .bytes(),
          GgufBuilder()
              .set("tokenizer.ggml.model", "bert")
              .set("tokenizer.ggml.tokens", words)
              .set("tokenizer.ggml.token_type", std::vector<int32_t>{3, 2, 3, 3, 1, 1, 1})
              .set("tokenizer.ggml.unknown_token_id", 1u)
              .set("tokenizer.ggml.cls_token_id", 2u)
              .set("tokenizer.ggml.seperator_token_id", 3u)
              .bytes()};
}

constexpr FuzzTarget targets[] = {{"gguf", gguf, made_gguf},
                                  {"safetensors", safetensors, made_safetensors},
                                  {"hugging_face", hugging_face, no_made},
                                  {"tokenizer", tokenizer, made_tokenizers},
                                  {"tokenizer_json", tokenizer_json, no_made},
                                  {"template", chat_template, no_made}};

}  // namespace

std::span<const FuzzTarget> fuzz_targets() { return targets; }

const FuzzTarget& fuzz_target(std::string_view name) {
  std::string known;
  for (const FuzzTarget& target : targets) {
    if (target.name == name) return target;
    known += fmt::format(" {}", target.name);
  }
  throw std::invalid_argument(fmt::format("no target {}; there are{}", name, known));
}

std::vector<std::string> fuzz_inputs(const FuzzTarget& target) {
  std::vector<std::string> inputs = target.made();
  const auto folder = std::filesystem::path(MS_SOURCE_DIR) / "tests/fuzz/corpus" / target.name;
  std::vector<std::filesystem::path> files;
  if (exists(folder))
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      files.push_back(entry.path());
  std::ranges::sort(files);
  for (const auto& path : files) inputs.push_back(read_file(path));
  return inputs;
}

void fuzz(const FuzzTarget& target, std::string_view bytes) {
  try {
    target.run(bytes);
  } catch (const Error&) {
  }
}

}  // namespace ms
