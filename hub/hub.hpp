// hub.hpp: models from a hub, kept in a folder: FOLDER/USER/REPO/FILE.
//
// A file has its name only when it is whole and its checksum right; until then it is FILE.part,
// which the next download goes on from. Processes that fetch from one repository take turns, by a
// lock that tells the folders of pull from others'.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "hub/http.hpp"
#include "hub/repository.hpp"

namespace ms {

struct HubOptions {
  std::filesystem::path folder;  // of all models
  std::function<Http()> http;    // the way to the hub, made when it is asked for the first time
  // A line for people: what is being waited for, or done again.
  std::function<void(std::string_view)> say = [](std::string_view) {};
  // What is done with a file ("fetching", "checking"), bytes of it so far, of all.
  std::function<void(std::string_view, const std::string&, uint64_t, uint64_t)> progress =
      [](std::string_view, const std::string&, uint64_t, uint64_t) {};
};

struct CachedModel {
  std::string name;  // as ModelName reads it
  uint64_t bytes = 0;
  std::filesystem::file_time_type when =
      std::filesystem::file_time_type::min();  // the newest of its files was fetched
  bool complete = true;                        // false: a download was broken off
};

class Hub {
 public:
  explicit Hub(HubOptions options);

  // The model's file, or its folder: the one of the cache, without a question to the hub; else
  // pull's.
  std::filesystem::path get(const ModelName& name);
  // Asks the hub what there is, fetches what is not in the cache as it is there. Throws Error:
  // there is no such model, no leave, no network, no room, damage on the way.
  std::filesystem::path pull(const ModelName& name);

  // The rest asks nobody.
  std::vector<CachedModel> cached() const;
  // Removes the model, or without `which` the repository's every file. Returns what was removed.
  // Of a link the link alone goes, and nothing from where it leads. Throws Error where there is
  // nothing of that name.
  std::vector<std::filesystem::path> remove(const ModelName& name);

 private:
  std::filesystem::path folder_of(const std::string& repository) const;
  std::vector<RepositoryModel> cached_models(const std::string& repository) const;
  std::string get_text(const std::string& url, std::string& next_page, const ModelName& name);
  std::vector<RepositoryFile> listing(const ModelName& name);
  void fetch(const RepositoryFile& file, const std::filesystem::path& part, const ModelName& name);
  bool is_there(const RepositoryFile& file, const std::filesystem::path& path);
  [[noreturn]] void refuse(const HttpAnswer& answer, const ModelName& name, std::string_view what);

  Http& http();

  HubOptions options_;
  std::optional<Http> http_;
};

}  // namespace ms
