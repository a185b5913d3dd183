// hugging_face_tokenizer.cpp: the files of a tokenizer, and of what surrounds it.
#include <algorithm>
#include <charconv>
#include <functional>
#include <map>

#include "base/error.hpp"
#include "formats/hugging_face.hpp"

namespace ms {
namespace {

using std::filesystem::path;

// The values of tokenizer.ggml.token_type.
constexpr int32_t kNormal = 1, kControl = 3, kUserDefined = 4;

struct Added {
  uint64_t id;
  bool special;
};
using AddedTokens = std::map<std::string, Added>;
using Strings = std::vector<std::string_view>;

// tokenizer_config.json has them by their numbers, tokenizer.json in a list.
void add_token(AddedTokens& added, const JsonObject& token, uint64_t id) {
  added.insert_or_assign(token.get_string("content"),
                         Added{id, token.find_bool("special").value_or(false)});
}

void add_from_config(AddedTokens& added, const JsonObject& tokenizer_config) {
  const auto all = tokenizer_config.find_object("added_tokens_decoder");
  if (!all) return;
  for (const auto& [number, token] : all->json().items()) {
    uint64_t id = 0;
    const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
    if (error != std::errc() || end != number.data() + number.size())
      all->refuse(number, "is no number of a token");
    add_token(added, *all->find_object(number), id);
  }
}

void add_from_tokenizer_json(AddedTokens& added, std::string_view text, const std::string& source) {
  const JsonObject json(source, parse_json(text, source, "added_tokens"));
  const Json* list = json.find("added_tokens");
  if (list == nullptr) return;
  if (!list->is_array()) json.refuse("added_tokens", "is no list");
  for (const Json& token : *list) {
    const JsonObject object(fmt::format("{}: \"added_tokens\"", source), token);
    add_token(added, object, object.get_uint("id"));
  }
}

std::string_view keep_file(const path& file, ModelFile& out) {
  const auto bytes = out.keep(MappedFile(file));
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

Strings lines_of(std::string_view text) {
  Strings lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    lines.push_back(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

// The tokens of vocab.json by id, and those that were added.
Strings tokens_of(const JsonObject& vocabulary, const AddedTokens& added, ModelFile& out) {
  std::map<uint64_t, std::string_view> by_id;
  const auto put = [&](const std::string& token, uint64_t id) {
    const auto [place, is_new] = by_id.emplace(id, token);
    if (!is_new && place->second != token)
      fail("{}: tokens {} and {} have one number, {}", vocabulary.source(),
           in_quotes(place->second), in_quotes(token), id);
  };
  for (const auto& [token, id] : vocabulary.json().items()) put(token, vocabulary.get_uint(token));
  for (const auto& [token, properties] : added) put(token, properties.id);
  Strings tokens;
  for (const auto& [id, token] : by_id) {
    if (id != tokens.size())
      fail("{}: there is no token of number {}", vocabulary.source(), tokens.size());
    tokens.push_back(out.keep(std::string(token)));
  }
  return tokens;
}

void set_tokens(std::string_view model, Strings tokens, const AddedTokens& added, ModelFile& out) {
  std::vector<int32_t> kinds(tokens.size(), kNormal);
  for (const auto& [token, properties] : added) {
    if (properties.id < kinds.size() && tokens[properties.id] == token)
      kinds[properties.id] = properties.special ? kControl : kUserDefined;
  }
  out.set("tokenizer.ggml.model", model);
  out.set("tokenizer.ggml.tokens", std::move(tokens));
  out.set("tokenizer.ggml.token_type", std::move(kinds));
}

// vocab.json and merges.txt: GPT-2's byte-level BPE. How text is split they do not say.
AddedTokens read_byte_level(const path& folder, AddedTokens added, const JsonObject& config,
                            const JsonObject& tokenizer_config, ModelFile& out) {
  const std::pair<std::string_view, std::string_view> splits[] = {
      {"GPT2Tokenizer", "gpt-2"},  {"GPT2TokenizerFast", "gpt-2"},
      {"Qwen2Tokenizer", "qwen2"}, {"Qwen2TokenizerFast", "qwen2"},
      {"gpt2", "gpt-2"},           {"qwen2", "qwen2"},
      {"qwen3", "qwen2"}};
  const std::string* type = tokenizer_config.find_string("tokenizer_class");
  if (type == nullptr) type = &config.get_string("model_type");
  const auto* split =
      std::ranges::find(splits, *type, [](const auto& known) { return known.first; });
  if (split == std::end(splits))
    fail(
        "{}: how tokenizers of {} split text is not known; tokenizer.json is needed, which is "
        "missing",
        folder.string(), in_quotes(*type));
  const JsonObject vocabulary = JsonObject::read(folder / "vocab.json");
  Strings merges = lines_of(keep_file(folder / "merges.txt", out));
  if (!merges.empty() && merges.front().starts_with("#version")) merges.erase(merges.begin());
  std::erase(merges, std::string_view());
  set_tokens("gpt2", tokens_of(vocabulary, added, out), added, out);
  out.set("tokenizer.ggml.pre", split->second);
  out.set("tokenizer.ggml.merges", std::move(merges));
  for (const auto& [token, id] : vocabulary.json().items())
    added.emplace(token, Added{id.get<uint64_t>(), false});
  return added;
}

// vocab.txt: BERT's WordPiece, in lower case. As in GGUF files, the beginning of a word is marked
// with U+2581 instead of what goes on with "##".
AddedTokens read_word_pieces(const path& folder, AddedTokens added,
                             const JsonObject& tokenizer_config, ModelFile& out) {
  for (const std::string_view key : {"do_lower_case", "tokenize_chinese_chars", "strip_accents"}) {
    if (!tokenizer_config.find_bool(key).value_or(true))
      tokenizer_config.refuse(key, "is false, which needs tokenizer.json; it is missing");
  }
  Strings lines = lines_of(keep_file(folder / "vocab.txt", out)), tokens;
  for (uint64_t id = 0; id < lines.size(); ++id) {
    const std::string_view line = lines[id];
    const bool special = line.starts_with('[') && line.ends_with(']');
    tokens.push_back(special                  ? line
                     : line.starts_with("##") ? line.substr(2)
                                              : out.keep("▁" + std::string(line)));
    const bool known = line == "[UNK]" || line == "[CLS]" || line == "[SEP]" || line == "[PAD]" ||
                       line == "[MASK]";
    if (known) added.emplace(line, Added{id, true});
  }
  set_tokens("bert", std::move(tokens), added, out);
  const std::pair<std::string_view, std::string_view> ids[] = {
      {"[CLS]", "cls"}, {"[SEP]", "seperator"}, {"[UNK]", "unknown"}};
  for (const auto& [token, name] : ids) {
    const auto found = added.find(std::string(token));
    if (found == added.end())
      fail("{}: there is no token {}", (folder / "vocab.txt").string(), token);
    out.set(out.keep(fmt::format("tokenizer.ggml.{}_token_id", name)), found->second.id);
  }
  return added;
}

// A token's name, which may stand in an object.
std::optional<std::string> name_of(const JsonObject& json, std::string_view key) {
  const Json* value = json.find(key);
  if (value == nullptr) return std::nullopt;
  if (value->is_object()) return json.find_object(key)->get_string("content");
  return *json.find_string(key);
}

// A number or a list of them.
std::vector<uint64_t> ids_of(const JsonObject& json, std::string_view key) {
  const Json* value = json.find(key);
  if (value == nullptr) return {};
  if (!value->is_array()) return {*json.find_uint(key)};
  std::vector<uint64_t> ids;
  for (const Json& id : *value) {
    if (!id.is_number_unsigned()) json.refuse(key, "holds something else than numbers of tokens");
    ids.push_back(id.get<uint64_t>());
  }
  return ids;
}

std::optional<std::string> chat_template(const path& folder, const JsonObject& tokenizer_config) {
  const path file = folder / "chat_template.jinja";  // the newer place
  if (is_there(file)) {
    const MappedFile mapped(file);
    return std::string(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
  }
  const Json* value = tokenizer_config.find("chat_template");
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) return *tokenizer_config.find_string("chat_template");
  for (const Json& entry : *value) {
    const JsonObject named(fmt::format("{}: \"chat_template\"", tokenizer_config.source()), entry);
    if (named.get_string("name") == "default" || value->size() == 1)
      return named.get_string("template");
  }
  tokenizer_config.refuse("chat_template", "has no template named \"default\"");
}

}  // namespace

void read_hugging_face_tokenizer(const path& folder, const JsonObject& config, ModelFile& out) {
  const auto tokenizer_config = JsonObject::read_if_there(folder / "tokenizer_config.json");
  const auto special_tokens = JsonObject::read_if_there(folder / "special_tokens_map.json");
  const auto generation = JsonObject::read_if_there(folder / "generation_config.json");

  AddedTokens added;
  add_from_config(added, tokenizer_config);
  const path json = folder / "tokenizer.json";
  if (is_there(json)) {
    const std::string_view text = keep_file(json, out);
    out.set("tokenizer.huggingface.json", text);
    add_from_tokenizer_json(added, text, json.string());
  } else if (is_there(folder / "vocab.json") && is_there(folder / "merges.txt")) {
    added = read_byte_level(folder, std::move(added), config, tokenizer_config, out);
  } else if (is_there(folder / "vocab.txt")) {
    added = read_word_pieces(folder, std::move(added), tokenizer_config, out);
  } else if (is_there(folder / "tokenizer.model")) {
    fail("{}: of the tokenizer there is tokenizer.model alone; tokenizer.json is needed",
         folder.string());
  } else {
    return;  // a model that takes token ids only
  }

  // By the tokenizer's own word for it; else by number.
  const auto find_id = [&](const std::string& name) -> std::optional<uint64_t> {
    const std::string key = name + "_token";
    auto token = name_of(tokenizer_config, key);
    if (!token && !tokenizer_config.json().contains(key)) token = name_of(special_tokens, key);
    if (!token) return std::nullopt;
    const auto found = added.find(*token);
    return found != added.end() ? std::optional(found->second.id) : std::nullopt;
  };
  const bool silent = tokenizer_config.json().empty() && special_tokens.json().empty();
  const auto bos = silent ? config.find_uint("bos_token_id") : find_id("bos");
  std::vector<uint64_t> ends = ids_of(generation, "eos_token_id");
  if (ends.empty()) ends = ids_of(config, "eos_token_id");
  auto eos = find_id("eos");
  if (!eos && !ends.empty()) eos = ends.front();
  if (eos && std::ranges::find(ends, *eos) == ends.end()) ends.push_back(*eos);
  if (bos) out.set("tokenizer.ggml.bos_token_id", *bos);
  if (eos) out.set("tokenizer.ggml.eos_token_id", *eos);
  if (const auto unknown = find_id("unk")) out.set("tokenizer.ggml.unknown_token_id", *unknown);
  if (!ends.empty()) out.set("tokenizer.huggingface.eos_token_ids", std::move(ends));
  for (const auto& [here, gguf] : {std::pair("add_bos_token", "tokenizer.ggml.add_bos_token"),
                                   std::pair("add_eos_token", "tokenizer.ggml.add_eos_token")}) {
    if (const auto flag = tokenizer_config.find_bool(here)) out.set(gguf, *flag);
  }
  if (auto text = chat_template(folder, tokenizer_config))
    out.set("tokenizer.chat_template", out.keep(std::move(*text)));
}

}  // namespace ms
