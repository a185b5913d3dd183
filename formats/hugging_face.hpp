// hugging_face.hpp: a reader of Hugging Face model folders: config.json, safetensors, and the files
// of the tokenizer, translated to GGUF's keys and names of tensors.
//
// Weights of F32, F16 and BF16. Where such a folder and a GGUF file of the same model differ:
// - q and k of Llama and Granite are not permuted here; "llama.rope.interleaved" is false for it.
// - There is no list of tokens but tokenizer.json, whole, as "tokenizer.huggingface.json". Where
//   only vocab.json and merges.txt or vocab.txt are there, tokenizer.ggml.* are made of them.
// - All tokens that end a reply are in "tokenizer.huggingface.eos_token_ids".
#pragma once
#include <filesystem>

#include "formats/json.hpp"
#include "formats/model_file.hpp"

namespace ms {

// Throws Error: a file that is missing or damaged, what says that the model computes something that
// no architecture here does. What config.json leaves out has transformers' defaults.
ModelFile read_hugging_face(const std::filesystem::path& folder);

// The part of it that is text: from tokenizer.json, vocab.json, vocab.txt, tokenizer_config.json,
// special_tokens_map.json, generation_config.json, chat_template.jinja.
void read_hugging_face_tokenizer(const std::filesystem::path& folder, const JsonObject& config,
                                 ModelFile& out);

}  // namespace ms
