// repository.cpp: names, listings, and which files make a model.
#include "hub/repository.hpp"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "base/error.hpp"
#include "base/shallow_json.hpp"

namespace ms {

namespace {

constexpr size_t longest_path = 512, longest_part = 240;  // a file system's 255, less an ending

constexpr std::string_view config_name = "config.json";
// What a folder of safetensors needs beside them, where a repository has it.
constexpr std::string_view beside_safetensors[] = {config_name,
                                                   "generation_config.json",
                                                   "tokenizer.json",
                                                   "tokenizer_config.json",
                                                   "tokenizer.model",
                                                   "special_tokens_map.json",
                                                   "added_tokens.json",
                                                   "chat_template.jinja",
                                                   "chat_template.json",
                                                   "vocab.json",
                                                   "vocab.txt",
                                                   "merges.txt",
                                                   "1_Pooling/config.json",
                                                   "sentence_bert_config.json"};

bool ascii_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

std::string upper(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'a' && c <= 'z' ? char(c - ('a' - 'A')) : c;
  return result;
}

bool is_gguf(std::string_view path) { return upper(path).ends_with(".GGUF"); }
bool is_safetensors(std::string_view path) {
  return path.find('/') == std::string_view::npos &&
         (path.ends_with(".safetensors") || path.ends_with(".safetensors.index.json"));
}
bool may_belong_to_a_model(std::string_view path) {
  return is_gguf(path) || path.ends_with(".safetensors") ||
         path.ends_with(".safetensors.index.json") ||
         std::ranges::find(beside_safetensors, path) != std::end(beside_safetensors);
}

// Whether a path keeps to the folder that it is put into, on any system.
bool is_safe(std::string_view path) {
  if (path.size() > longest_path) return false;
  for (const char c : path)
    if (uint8_t(c) < 32 || c == 127 || c == '\\' || c == ':') return false;
  for (size_t begin = 0; begin <= path.size();) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string_view part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == ".." || part.size() > longest_part) return false;
    begin = end + 1;
  }
  return true;
}

std::string digits(const nlohmann::json& object, const char* key, size_t count) {
  const auto found = object.find(key);
  if (found == object.end() || !found->is_string()) return {};
  const std::string text = found->get<std::string>();
  const bool right = text.size() == count && std::ranges::all_of(text, [](char c) {
                       return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                     });
  return right ? text : std::string();
}

bool is_tag(std::string_view word) {
  for (const std::string_view whole : {"BF16", "F16", "F32", "FP16", "FP32", "NVFP4"})
    if (word == whole) return true;
  if (word.starts_with("MXFP4")) return true;
  if (word.starts_with("IQ") || word.starts_with("TQ")) word.remove_prefix(1);
  return word.size() >= 4 && word[0] == 'Q' && word[1] >= '1' && word[1] <= '8' && word[2] == '_';
}

// The quantisation in a path: the last of its words that is one.
std::string tag_of(std::string_view path) {
  const std::string text = upper(path);
  std::string tag;
  for (size_t begin = 0; begin < text.size();) {  // words, which end with - . or /
    const size_t end = std::min(text.find_first_of("-./", begin), text.size());
    const std::string word = text.substr(begin, end - begin);
    if (is_tag(word)) tag = text.substr(0, begin).ends_with("UD-") ? "UD-" + word : word;
    begin = end + 1;
  }
  return tag;
}

// Parts of a split GGUF file are NAME-00001-of-00003.gguf and so on.
struct Split {
  std::string stem;
  unsigned number = 1, count = 1;
};
Split split_of(const std::string& path) {
  constexpr std::string_view form = "-00000-OF-00000.GGUF";
  if (path.size() < form.size()) return {path};
  const size_t begin = path.size() - form.size();
  const std::string end = upper(path.substr(begin));
  for (size_t i = 0; i < form.size(); ++i)
    if (form[i] == '0' ? end[i] < '0' || end[i] > '9' : end[i] != form[i]) return {path};
  return {path.substr(0, begin) + "-of-" + end.substr(10, 5),
          unsigned(std::stoul(end.substr(1, 5))), unsigned(std::stoul(end.substr(10, 5)))};
}

// Whether a path has these words: not in the middle of one.
bool has_words(const std::string& path, std::string_view words) {
  const std::string in = upper(path), what = upper(words);
  for (size_t at = in.find(what); at != std::string::npos; at = in.find(what, at + 1)) {
    const size_t end = at + what.size();
    if ((at == 0 || !ascii_letter_or_digit(in[at - 1])) &&
        (end == in.size() || std::string_view("-./").find(in[end]) != std::string_view::npos))
      return true;
  }
  return false;
}

void add_safetensors(const std::vector<RepositoryFile>& files,
                     std::vector<RepositoryModel>& models) {
  // Some repositories have the weights twice; a loader takes those named model….
  const auto is_main = [](const RepositoryFile& f) {
    return is_safetensors(f.path) &&
           (f.path == "model.safetensors" || f.path.starts_with("model-") ||
            f.path.starts_with("model.safetensors."));
  };
  const bool any_main = std::ranges::any_of(files, is_main);
  RepositoryModel model;
  bool weights = false;
  const RepositoryFile* config = nullptr;
  for (const RepositoryFile& file : files) {
    if (file.path == config_name)
      config = &file;
    else if (is_safetensors(file.path) ? !any_main || is_main(file)
                                       : std::ranges::find(beside_safetensors, file.path) !=
                                             std::end(beside_safetensors)) {
      weights |= file.path.ends_with(".safetensors");
      model.files.push_back(file);
    }
  }
  if (!weights) return;
  model.complete = config != nullptr;
  if (config) model.files.push_back(*config);
  models.push_back(std::move(model));
}

}  // namespace

bool is_hidden(std::string_view path) {
  return path.starts_with('.') || path.find("/.") != std::string_view::npos;
}

bool is_user_or_repo(std::string_view name) {
  return !name.empty() && name.size() <= 96 && ascii_letter_or_digit(name.front()) &&
         name.find("..") == std::string_view::npos && std::ranges::all_of(name, [](char c) {
           return ascii_letter_or_digit(c) || c == '-' || c == '_' || c == '.';
         });
}

ModelName ModelName::parse(std::string_view text) {
  const size_t colon = text.find(':'), slash = text.find('/');
  const std::string_view repository = text.substr(0, colon);
  const size_t split = std::min(slash, repository.size());
  require(is_user_or_repo(repository.substr(0, split)) && split < repository.size() &&
              is_user_or_repo(repository.substr(split + 1)) &&
              (colon == std::string_view::npos || colon + 1 < text.size()),
          "\"{}\" is no model of a hub: want USER/REPO or USER/REPO:WHICH, where WHICH is a "
          "quantisation like Q8_0 or a file",
          text);
  return {std::string(repository),
          std::string(colon == std::string_view::npos ? "" : text.substr(colon + 1))};
}

uint64_t RepositoryModel::bytes() const {
  uint64_t bytes = 0;
  for (const RepositoryFile& file : files) bytes += file.size;
  return bytes;
}

std::vector<RepositoryFile> parse_listing(std::string_view json, const std::string& repository) {
  const auto listing = parse_shallow<nlohmann::json>(json);
  const auto wrong = [&] [[noreturn]] (std::string_view what) {
    fail("the hub's list of the files of {} {}: is HF_ENDPOINT a hub?", repository, what);
  };
  if (!listing.is_array()) wrong("is no JSON array");
  std::vector<RepositoryFile> files;
  for (const auto& entry : listing) {
    if (!entry.is_object() || !entry.contains("path") || !entry["path"].is_string())
      wrong("has an entry without a path");
    if (entry.value("type", nlohmann::json("file")) != "file") continue;
    RepositoryFile file{.path = entry["path"].get<std::string>()};
    if (!may_belong_to_a_model(file.path)) continue;
    if (!is_safe(file.path))
      fail("{} lists a file whose name leads out of a folder or is no name: {:?}", repository,
           file.path);
    const auto large = entry.find("lfs");
    const bool is_large = large != entry.end() && large->is_object();
    const auto size = (is_large ? *large : entry).find("size");
    if (size == (is_large ? *large : entry).end() || !size->is_number_unsigned())
      wrong(fmt::format("has no size of {}", file.path));
    file.size = size->get<uint64_t>();
    if (is_large)
      file.sha256 = digits(*large, "oid", 64);  // its own oid is that of a pointer
    else
      file.git_sha1 = digits(entry, "oid", 40);
    files.push_back(std::move(file));
  }
  return files;
}

std::vector<RepositoryModel> models_among(std::vector<RepositoryFile> files) {
  std::erase_if(files, [](const RepositoryFile& file) { return is_hidden(file.path); });
  std::ranges::sort(files, {}, &RepositoryFile::path);
  std::map<std::string, std::vector<RepositoryFile>> groups;
  for (const RepositoryFile& file : files) {
    // Parts of other kinds of models, and statistics of quantisers, are no models.
    const std::string name = upper(file.path.substr(file.path.rfind('/') + 1));
    if (is_gguf(file.path) && name.find("MMPROJ") == std::string::npos &&
        name.find("IMATRIX") == std::string::npos)
      groups[split_of(file.path).stem].push_back(file);
  }
  std::vector<RepositoryModel> models;
  for (auto& [stem, parts] : groups) {
    RepositoryModel model{.tag = tag_of(parts.front().path), .entry = parts.front().path};
    const Split first = split_of(model.entry);
    model.complete = first.number == 1 && parts.size() == first.count;
    std::rotate(parts.begin(), parts.begin() + 1, parts.end());
    model.files = std::move(parts);
    models.push_back(std::move(model));
  }
  std::ranges::sort(models, {},
                    [](const RepositoryModel& m) { return std::tuple(m.entry.size(), m.entry); });
  if (models.empty()) add_safetensors(files, models);
  return models;
}

const RepositoryModel* choose(const std::vector<RepositoryModel>& models, std::string_view which) {
  if (which.empty()) {
    for (const std::string_view usual : {"Q4_K_M", "Q8_0"})
      if (const RepositoryModel* model = choose(models, usual)) return model;
    return models.empty() ? nullptr : &models.front();
  }
  for (const RepositoryModel& model : models)
    for (const RepositoryFile& file : model.files)
      if (!model.entry.empty() && file.path == which) return &model;
  for (const RepositoryModel& model : models)
    if (has_words(model.entry, which)) return &model;
  return nullptr;
}

std::vector<std::string> names_of(const std::vector<RepositoryModel>& models,
                                  const std::string& repository) {
  std::vector<std::string> names;
  for (const RepositoryModel& model : models) {
    const bool by_tag = !model.tag.empty() && choose(models, model.tag) == &model;
    names.push_back(
        ModelName{repository, by_tag || model.entry.empty() ? model.tag : model.entry}.text());
  }
  return names;
}

}  // namespace ms
