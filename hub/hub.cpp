// hub.cpp: the hub's protocol, and the folder that keeps what came.
#include "hub/hub.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>
#include <set>
#include <system_error>
#include <thread>

#include "base/error.hpp"
#include "hub/part_file.hpp"

namespace ms {

namespace {

namespace fs = std::filesystem;

constexpr int most_tries = 6;               // in a row that bring nothing
constexpr uint64_t progress_bytes = 65536;  // that a try must bring to count as of use
constexpr auto longest_wait = std::chrono::seconds(60);
constexpr size_t most_pages = 1000, most_page_bytes = 64 << 20;
constexpr std::string_view part_ending = ".part", lock_name = ".lock";

// Tries of something that fails for a while, with growing pauses between.
class Tries {
 public:
  Tries(const HubOptions& options, bool reached) : options_(options), reached_(reached) {}

  // Waits before the next try, `wait` or what the pause has grown to; throws what has gone wrong
  // instead when there were enough.
  void again(const NetworkError& error, std::chrono::milliseconds wait = {}) {
    if (++tries_ >= (error.unreachable && !reached_ ? 2 : most_tries)) throw error;
    if (wait == std::chrono::milliseconds()) wait = std::chrono::milliseconds(250) * (1 << tries_);
    wait = std::min<std::chrono::milliseconds>(wait, longest_wait);
    options_.say(fmt::format("{}; trying again in {:.1f} s", error.what(), wait.count() / 1e3));
    std::this_thread::sleep_for(wait);
  }
  void were_of_use() { tries_ = 0; }

 private:
  const HubOptions& options_;
  const bool reached_;  // the hub was, already: then it may come back
  int tries_ = 0;
};

bool passes(long status) {  // whether the same question may be answered later
  return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 ||
         status == 504;
}

std::chrono::milliseconds retry_after(const HttpAnswer& answer) {
  const std::string_view text =
      answer.header("retry-after");  // its other form, a date, is not read
  uint32_t seconds = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (text.empty() || error != std::errc{} || end != text.data() + text.size()) return {};
  return std::chrono::milliseconds(std::max<uint64_t>(seconds * uint64_t(1000), 1));
}

// The rest of a header like `<https://…>; rel="next", <https://…>; rel="last"`.
std::string next_link(std::string_view header) {
  while (!header.empty()) {
    const size_t open = header.find('<'), close = header.find('>', std::min(open, header.size()));
    if (close == std::string_view::npos) return {};
    const size_t end = std::min(header.find(',', close), header.size());
    if (header.substr(close, end - close).find("rel=\"next\"") != std::string_view::npos)
      return std::string(header.substr(open + 1, close - open - 1));
    header.remove_prefix(std::min(end + 1, header.size()));
  }
  return {};
}

// Removes a repository's folder, and then its user's, that holds nothing but folders and the lock.
void remove_if_empty(const fs::path& folder) {
  std::error_code error;
  if (fs::is_symlink(folder, error)) return;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error))
    if (at->symlink_status(error).type() != fs::file_type::directory &&
        at->path() != folder / lock_name)
      return;
  if (!error) fs::remove_all(folder, error);
  rmdir(folder.parent_path().c_str());  // where it is empty, and no link
}

// Held by who changes a repository's folder. Makes the folder, and leaves no empty one.
class FolderLock {
 public:
  FolderLock(const fs::path& folder, const HubOptions& options) : folder_(folder) {
    std::error_code ignored;
    for (const fs::path& link : {folder.parent_path(), folder})
      if (fs::is_symlink(link, ignored) && !fs::exists(link, ignored))
        fail("{} is a link that leads nowhere: remove it, or make the folder that it leads to",
             link.string());
    for (const fs::path path = folder / lock_name;;) {
      std::error_code error;
      fs::create_directories(folder, error);
      fd_ = error ? -1 : open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
      if (fd_ < 0 && !error && errno == ENOENT) continue;  // the folder was just removed
      if (fd_ < 0)
        fail("cannot write to {}: {}", folder.string(),
             error ? error.message() : std::generic_category().message(errno));
      if (flock(fd_, LOCK_EX | LOCK_NB) != 0) {
        options.say(fmt::format("waiting for another process that fetches to {}", folder.string()));
        while (flock(fd_, LOCK_EX) != 0)
          if (errno != EINTR) fail("cannot lock {}: {}", path.string(), std::strerror(errno));
      }
      struct stat mine, there;  // the one before may have removed the file meanwhile
      if (fstat(fd_, &mine) == 0 && stat(path.c_str(), &there) == 0 &&
          mine.st_ino == there.st_ino && mine.st_dev == there.st_dev)
        return;
      close(fd_);
    }
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() {
    remove_if_empty(folder_);
    close(fd_);
  }

 private:
  const fs::path folder_;
  int fd_ = -1;
};

void sync_folder(const fs::path& folder) {
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

// The files below a folder, their paths relative to it. A link to one counts as one, under its own
// name.
std::vector<RepositoryFile> files_below(const fs::path& folder) {
  std::vector<RepositoryFile> files;
  std::error_code error;
  for (fs::recursive_directory_iterator at(folder, error), end; !error && at != end;
       at.increment(error)) {
    std::error_code ignored;
    if (!at->is_regular_file(ignored) || at->path().filename() == lock_name) continue;
    const uint64_t size = at->file_size(ignored);
    files.push_back({.path = at->path().lexically_relative(folder).generic_string(),
                     .size = ignored ? 0 : size});
  }
  return files;
}

// What a link leads to is the user's, not the cache's.
void refuse_to_remove_through_a_link(const fs::path& folder, const std::string& what) {
  for (const fs::path& link : {folder, folder.parent_path()})
    if (fs::is_symlink(link))
      fail("{} is not removed, for {} is a link: remove the link, or what it leads to", what,
           link.string());
}

bool is_part(const RepositoryFile& file) { return file.path.ends_with(part_ending); }
fs::path part_of(const fs::path& file) { return file.string() + std::string(part_ending); }

// The models of a folder, whole or not: what is a part counts by the name that it will have.
std::vector<RepositoryModel> models_in(const fs::path& folder) {
  std::vector<RepositoryFile> files = files_below(folder);
  for (RepositoryFile& file : files)
    if (is_part(file)) file.path.resize(file.path.size() - part_ending.size());
  std::ranges::sort(files, {}, &RepositoryFile::path);
  const auto twice = std::ranges::unique(files, {}, &RepositoryFile::path);
  files.erase(twice.begin(), twice.end());
  return models_among(std::move(files));
}

// Others beside the models may have folders of their own.
bool is_of_pull(const fs::path& folder) {
  std::error_code none;
  return fs::is_directory(folder, none) &&
         (fs::is_symlink(folder) || fs::exists(folder / lock_name, none));
}

// Before anything is fetched: a file's name is taken only once it is there.
void require_place_for(const fs::path& path, const fs::path& folder) {
  const auto refuse = [](const fs::path& there, std::string_view what) {
    fail("{} is {}, where pull would write: move it away", there.string(), what);
  };
  if (fs::is_directory(path)) refuse(path, "a folder");
  for (fs::path parent = path.parent_path(); parent != folder; parent = parent.parent_path())
    if (fs::is_symlink(parent)) refuse(parent, "a link");
}

std::string list_of(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += "\n  " + name;
  return text;
}

// A repository's models, and what is left of downloads that were broken off.
std::vector<CachedModel> cached_in(const fs::path& folder, const std::string& repository) {
  std::vector<CachedModel> all;
  std::error_code none;
  const auto add = [&](const std::string& name, const std::vector<fs::path>& files, bool complete) {
    if (files.empty()) return;
    CachedModel& cached = all.emplace_back(CachedModel{.name = name, .complete = complete});
    for (const fs::path& file : files) {
      cached.bytes += fs::file_size(file, none);
      cached.when = std::max(cached.when, fs::last_write_time(file, none));
    }
  };
  const std::vector<RepositoryModel> models = models_in(folder);
  const std::vector<std::string> names = names_of(models, repository);
  for (size_t i = 0; i < models.size(); ++i) {
    std::vector<fs::path> whole, parts;
    for (const RepositoryFile& file : models[i].files) {
      const fs::path path = folder / file.path, part = part_of(path);
      if (fs::is_regular_file(path, none)) whole.push_back(path);
      if (fs::is_regular_file(part, none)) parts.push_back(part);
    }
    // Beside a whole model there may be parts of its next version; else its files wait for others.
    const bool complete = models[i].complete && whole.size() == models[i].files.size();
    if (complete)
      add(names[i], whole, true);
    else
      parts.insert(parts.end(), whole.begin(), whole.end());
    add(names[i], parts, false);
  }
  if (!models.empty()) return all;
  std::vector<fs::path> parts;  // of a model whose weights have not begun
  for (const RepositoryFile& file : files_below(folder))
    if (is_part(file) && !is_hidden(file.path)) parts.push_back(folder / file.path);
  add(repository, parts, false);
  return all;
}

// Those of users or repositories.
std::vector<fs::path> folders_in(const fs::path& folder) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error)) {
    std::error_code ignored;
    if (at->is_directory(ignored) && is_user_or_repo(at->path().filename().string()))
      folders.push_back(at->path());
  }
  std::ranges::sort(folders);
  return folders;
}

}  // namespace

Hub::Hub(HubOptions options) : options_(std::move(options)) {
  require(!options_.folder.empty(), "there is no folder for models: set HOME or XDG_CACHE_HOME");
}

Http& Hub::http() {
  if (!http_) http_ = options_.http();
  return *http_;
}

fs::path Hub::folder_of(const std::string& repository) const {
  return options_.folder / repository;
}

std::vector<RepositoryModel> Hub::cached_models(const std::string& repository) const {
  std::vector<RepositoryFile> files = files_below(folder_of(repository));
  std::erase_if(files, is_part);
  return models_among(std::move(files));
}

fs::path Hub::get(const ModelName& name) {
  const std::vector<RepositoryModel> models = cached_models(name.repository);
  const RepositoryModel* const model = choose(models, name.which);
  if (model && model->complete)
    return model->entry.empty() ? folder_of(name.repository)
                                : folder_of(name.repository) / model->entry;
  try {
    return pull(name);
  } catch (const NetworkError& error) {
    if (models.empty()) throw;
    fail("{}\nWithout a network there is{}", error.what(),
         list_of(names_of(models, name.repository)));
  }
}

void Hub::refuse(const HttpAnswer& answer, const ModelName& name, std::string_view what) {
  const std::string page = fmt::format("{}/{}", http().endpoint(), name.repository);
  const std::string code(answer.header("x-error-code"));
  if (code == "GatedRepo" || answer.status == 403)
    fail(
        "{} may not be fetched{}: accept its licence at {}, and set HF_TOKEN to a token that may "
        "read it",
        what, http().has_token() ? " with this HF_TOKEN" : "", page);
  if (answer.status == 401)
    fail("{}: the hub knows no public model {}. Check the name; if it is private, {}", what,
         name.repository,
         http().has_token() ? "HF_TOKEN is not one that may read it" : "set HF_TOKEN");
  if (answer.status == 404) fail("there is no {} at {}", what, http().endpoint());
  std::string said(answer.header("x-error-message"));
  if (said.empty()) said = answer.error_body.substr(0, 200);
  for (char& c : said) c = uint8_t(c) < 32 || c == 127 ? ' ' : c;
  const std::string message = fmt::format("{}: the hub answers with status {}{}{}", what,
                                          answer.status, said.empty() ? "" : ": ", said);
  if (passes(answer.status)) throw NetworkError(message, false);
  fail("{}", message);
}

std::string Hub::get_text(const std::string& url, std::string& next_page, const ModelName& name) {
  for (Tries tries(options_, false);;) {
    std::string text;
    HttpAnswer answer;
    try {
      answer = http().get(url, 0, {}, [&](std::string_view piece) {
        if (text.size() + piece.size() > most_page_bytes)
          fail("the hub's list of the files of {} has no end", name.repository);
        text += piece;
      });
      if (!answer.ok()) refuse(answer, name, "model " + name.repository);
    } catch (const NetworkError& error) {
      tries.again(error, retry_after(answer));
      continue;
    }
    next_page = next_link(answer.header("link"));
    return text;
  }
}

std::vector<RepositoryFile> Hub::listing(const ModelName& name) {
  std::vector<RepositoryFile> files;
  std::string url =
      fmt::format("{}/api/models/{}/tree/main?recursive=true", http().endpoint(), name.repository);
  for (size_t pages = 0; !url.empty(); ++pages) {
    if (pages == most_pages)
      fail("the hub's list of the files of {} has no end: {} pages", name.repository, pages);
    std::string next;
    const std::string text = get_text(url, next, name);
    std::ranges::move(parse_listing(text, name.repository), std::back_inserter(files));
    url = next;
  }
  return files;
}

void Hub::fetch(const RepositoryFile& file, const fs::path& path, const ModelName& name) {
  const std::string url =
      fmt::format("{}/{}/resolve/main/{}", http().endpoint(), name.repository, url_path(file.path));
  PartFile part(path, file,
                [&](uint64_t done) { options_.progress("checking", file.path, done, file.size); });
  bool resumed = part.size() > 0;
  for (;;) {
    uint64_t best = part.size();  // what tries must get beyond
    Tries tries(options_, true);
    while (part.size() < file.size) {
      HttpAnswer answer;
      const uint64_t from = part.size();
      try {
        options_.progress("fetching", file.path, from, file.size);
        answer = http().get(
            url, from,
            [&](const HttpAnswer& head) {
              const std::string_view range = head.header("content-range");
              const std::string_view etag = head.header("x-linked-etag");
              if (head.status == 206 && !range.starts_with(fmt::format("bytes {}-", from)))
                fail("{}: asked for bytes from {} on, the hub sends \"{}\"", file.path, from,
                     range);
              if (etag.size() == 66 && !file.sha256.empty() && etag.substr(1, 64) != file.sha256)
                fail("{} has changed at the hub just now: try again", file.path);
              if (head.status != 206 && from > 0) part.restart();  // ranges are not served
            },
            [&](std::string_view bytes) {
              part.append(bytes);
              options_.progress("fetching", file.path, part.size(), file.size);
            });
        if (answer.status == 416 && from > 0) {
          part.restart();
          resumed = false;
          continue;
        }
        if (!answer.ok())
          refuse(answer, name, fmt::format("file {} of model {}", file.path, name.repository));
        if (part.size() < file.size)
          throw NetworkError(
              fmt::format("{} ended after {} of {} bytes", file.path, part.size(), file.size),
              false);
      } catch (const NetworkError& error) {
        if (part.size() >= best + progress_bytes) {
          best = part.size();
          tries.were_of_use();
        }
        tries.again(error, retry_after(answer));
      }
    }
    if (part.finish()) return;
    if (!resumed) break;
    options_.say(file.path + ": what was here of it is of another version; starting again");
    part.restart();
    resumed = false;
  }
  fs::remove(path);
  fail("{} arrived damaged: its checksum is not the hub's, so it was removed. Try again",
       file.path);
}

bool Hub::is_there(const RepositoryFile& file, const fs::path& path) {
  return is_whole(path, file, [&](uint64_t done) {
    options_.progress("checking", file.path, done, file.size);
  });
}

fs::path Hub::pull(const ModelName& name) {
  const std::vector<RepositoryModel> models = models_among(listing(name));
  if (models.empty())
    fail("{} at {} has no model: neither GGUF nor safetensors", name.repository, http().endpoint());
  const RepositoryModel* const model = choose(models, name.which);
  if (!model)
    fail("{} has no \"{}\". It has{}", name.repository, name.which,
         list_of(names_of(models, name.repository)));
  if (!model->complete)
    fail("{} at {} is not complete: {}", name.text(), http().endpoint(),
         model->entry.empty() ? "it has no config.json"
                              : "parts of " + model->entry + " are missing");
  for (const RepositoryFile& file : model->files)
    if (file.size == 0 && (!model->entry.empty() || file.path.ends_with(".safetensors")))
      fail("{} at {} is empty: {}", name.text(), http().endpoint(), file.path);

  const fs::path folder = folder_of(name.repository);
  const FolderLock lock(folder, options_);
  std::vector<std::pair<const RepositoryFile*, fs::path>> missing;  // and its part
  uint64_t needed = 0;
  for (const RepositoryFile& file : model->files) {
    require_place_for(folder / file.path, folder);
    if (is_there(file, folder / file.path)) continue;
    fs::path part = part_of(folder / file.path);
    std::error_code none;
    const uint64_t here = fs::file_size(part, none);
    needed += file.size - (none ? 0 : std::min(here, file.size));
    missing.emplace_back(&file, std::move(part));
  }
  const uint64_t room = fs::space(folder).available;
  if (needed > room)
    fail("{} takes {} more bytes, {} are free at {}", name.text(), needed, room, folder.string());
  for (const auto& [file, part] : missing) {
    fs::create_directories(part.parent_path());
    fetch(*file, part, name);
  }
  // The entry, or config.json, comes last: only with it the model is one.
  for (const auto& [file, part] : missing) {
    fs::rename(part, folder / file->path);
    sync_folder(part.parent_path());
  }
  if (!model->entry.empty()) return folder / model->entry;
  // Weights of an earlier version would be read with the new ones.
  std::set<std::string> wanted;
  for (const RepositoryFile& file : model->files) wanted.insert(file.path);
  for (const RepositoryFile& file : files_below(folder))
    if (file.path.find(".safetensors") != std::string::npos && !wanted.contains(file.path)) {
      refuse_to_remove_through_a_link(folder, (folder / file.path).string());
      fs::remove(folder / file.path);
    }
  return folder;
}

std::vector<CachedModel> Hub::cached() const {
  std::vector<CachedModel> all;
  for (const fs::path& user : folders_in(options_.folder))
    for (const fs::path& folder : folders_in(user))
      if (is_of_pull(folder))
        std::ranges::move(cached_in(folder, (user.filename() / folder.filename()).generic_string()),
                          std::back_inserter(all));
  return all;
}

std::vector<fs::path> Hub::remove(const ModelName& name) {
  const fs::path folder = folder_of(name.repository);
  const auto unknown = [&] [[noreturn]] () {
    std::vector<std::string> names;
    for (const CachedModel& model : cached()) names.push_back(model.name);
    if (names.empty()) fail("there is no {}: no model was pulled yet", name.text());
    fail("there is no {} here. There is{}", name.text(), list_of(names));
  };
  std::error_code none;
  if (fs::is_symlink(folder) && !fs::is_regular_file(folder, none) &&
      !fs::is_symlink(folder.parent_path()) && name.which.empty()) {
    fs::remove(folder);
    rmdir(folder.parent_path().c_str());
    return {folder};
  }
  if (!is_of_pull(folder)) unknown();
  refuse_to_remove_through_a_link(folder, name.text());
  const FolderLock lock(folder, options_);
  std::vector<RepositoryFile> files = files_below(folder);
  if (!name.which.empty()) {  // the model's, whether they are whole or not
    const std::vector<RepositoryModel> models = models_in(folder);
    const RepositoryModel* const model = choose(models, name.which);
    if (!model) unknown();
    files = model->files;
  }
  std::vector<fs::path> removed;
  for (const RepositoryFile& file : files) {
    const fs::path path = folder / file.path;
    for (const fs::path& form : {path, part_of(path)})
      if (fs::remove(form)) removed.push_back(form);
    std::error_code not_empty;
    for (fs::path parent = path.parent_path(); parent != folder; parent = parent.parent_path())
      if (!fs::remove(parent, not_empty)) break;
  }
  return removed;
}

}  // namespace ms
