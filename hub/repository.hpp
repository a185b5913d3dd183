// repository.hpp: what a repository of models is made of: its name, its files, the models among
// them.
//
// The same holds for a listing of the hub and for a folder of the cache.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ms {

// USER/REPO, or USER/REPO:WHICH: a quantisation or a file.
struct ModelName {
  std::string repository, which;  // which may be empty

  // Throws std::invalid_argument for any other form.
  static ModelName parse(std::string_view text);
  std::string text() const { return which.empty() ? repository : repository + ":" + which; }
};

// Whether it may be the USER or the REPO of a name.
bool is_user_or_repo(std::string_view name);
// Whether a path is of what systems leave behind (._m.gguf) or keep to themselves.
bool is_hidden(std::string_view path);

struct RepositoryFile {
  std::string path;  // relative, parts separated by '/'
  uint64_t size = 0;
  // In lower-case hexadecimal digits; either or both may be unknown, that is empty.
  std::string sha256 = {};    // of the contents
  std::string git_sha1 = {};  // as git names a file's contents
};

// One model of a repository: a GGUF file, the parts of a split one, or a folder of safetensors.
struct RepositoryModel {
  std::string tag;                         // of its quantisation: "Q4_K_M"; may be empty
  std::string entry;                       // the file to open; empty: the repository's folder
  std::vector<RepositoryFile> files = {};  // the entry, or config.json, is the last
  bool complete = true;                    // false: parts are missing

  uint64_t bytes() const;
};

// The files of a page of the hub's listing that may belong to a model. Throws Error for anything
// but such a listing, and for a path that leads out of a folder.
std::vector<RepositoryFile> parse_listing(std::string_view json, const std::string& repository);

// The models among files: those of GGUF, or where there are none the one of safetensors; hidden
// files are none. In the order of their names, the shorter first.
std::vector<RepositoryModel> models_among(std::vector<RepositoryFile> files);

// The model that is meant: by a file's path, by its tag or an end of it; for an empty one Q4_K_M,
// else Q8_0, else the first. Null where there is none.
const RepositoryModel* choose(const std::vector<RepositoryModel>& models, std::string_view which);

// How to name each model of a repository, USER/REPO:WHICH, in turn.
std::vector<std::string> names_of(const std::vector<RepositoryModel>& models,
                                  const std::string& repository);

}  // namespace ms
