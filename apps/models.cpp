// models.cpp: mainspring pull, list and rm: the models that were fetched from a hub.
#include "apps/models.hpp"

#include <fmt/chrono.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>

#include "apps/common.hpp"
#include "hub/hub.hpp"

namespace ms {

namespace {

constexpr const char* notes =
    R"(WHICH is a quantisation or a file. Without it: Q4_K_M, else Q8_0, else the first GGUF by name; all parts of
a split one; where there is no GGUF, the safetensors with their configuration and tokenizer. What is
here already is checked, and fetched again only where the hub has another version. An interrupted
download goes on where it ended. The path of the model is printed.

  HF_ENDPOINT   the hub's address, if it is another than the usual one
  HF_TOKEN      a token for models that are private, or whose licence has to be accepted
  HF_HUB_DOWNLOAD_TIMEOUT   seconds that a connection may be silent; 30 if it is not set
Models are kept in ${XDG_CACHE_HOME:-~/.cache}/mainspring/models/USER/REPO.

Examples:
  mainspring pull ggml-org/gemma-3-270m-it-GGUF:Q8_0
  mainspring run -hf ggml-org/gemma-3-270m-it-GGUF:Q8_0 "Why is the sky blue?"
  mainspring list
  mainspring rm ggml-org/gemma-3-270m-it-GGUF)";

using Clock = std::chrono::steady_clock;

std::string decimal_bytes(double bytes) {
  constexpr const char* units[] = {"bytes", "kB", "MB", "GB", "TB"};
  size_t unit = 0;
  for (; bytes >= 1000 && unit + 1 < std::size(units); ++unit) bytes /= 1000;
  return fmt::format("{:.{}f} {}", bytes, unit == 0 || bytes >= 100 ? 0 : 1, units[unit]);
}

std::string minutes(double seconds) {
  const auto s = uint64_t(std::min(seconds, 359999.0));
  return s < 3600 ? fmt::format("{}:{:02}", s / 60, s % 60)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

// What a download is at: on a terminal a line that changes, else a line for each file.
class DownloadProgress {
 public:
  ~DownloadProgress() { clear(); }

  void say(std::string_view line) {
    clear();
    fmt::print(stderr, "mainspring: {}\n", line);
  }

  void operator()(std::string_view what, const std::string& file, uint64_t done, uint64_t all) {
    const auto now = Clock::now();
    if (file != file_ || what != what_) {
      begin_ = now, first_ = done;
      file_ = file, what_ = what;
      if (!terminal_ && what == "fetching")
        say(fmt::format("fetching {}, {}{}", file, decimal_bytes(double(all)),
                        done ? ", from " + decimal_bytes(double(done)) + " on" : ""));
    } else if (terminal_ && done < all && now - shown_ < std::chrono::milliseconds(100)) {
      return;
    }
    shown_ = now;
    if (!terminal_) return;
    constexpr uint64_t places = 24;
    const uint64_t full = all ? uint64_t(double(done) / double(all) * places) : places;
    const double seconds = std::chrono::duration<double>(now - begin_).count();
    const double rate = done > first_ && seconds > 0.2 ? double(done - first_) / seconds : 0;
    fmt::print(stderr, "\r\x1b[K{} {} [{}{}] {} of {}", what, file.substr(file.rfind('/') + 1),
               std::string(full, '='), std::string(places - full, ' '), decimal_bytes(double(done)),
               decimal_bytes(double(all)));
    if (rate > 0)
      fmt::print(stderr, ", {}/s, {} left", decimal_bytes(rate),
                 minutes(double(all - done) / rate));
    std::fflush(stderr);
    dirty_ = true;
  }

 private:
  void clear() {
    if (dirty_) fmt::print(stderr, "\r\x1b[K");
    dirty_ = false;
  }

  const bool terminal_ = isatty(STDERR_FILENO);
  bool dirty_ = false;
  std::string file_, what_;
  Clock::time_point begin_, shown_;
  uint64_t first_ = 0;
};

std::string variable(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value && *value ? value : otherwise;
}

// Throws std::invalid_argument for a variable that is wrong.
Http http_of_environment() {
  const std::string timeout = variable("HF_HUB_DOWNLOAD_TIMEOUT", "30");
  uint32_t seconds = 0;
  const auto [end, error] =
      std::from_chars(timeout.data(), timeout.data() + timeout.size(), seconds);
  require(error == std::errc{} && end == timeout.data() + timeout.size() && seconds > 0 &&
              seconds <= 86400,
          "HF_HUB_DOWNLOAD_TIMEOUT is \"{}\": want seconds, 1 to 86400", timeout);
  return Http(variable("HF_ENDPOINT", "https://huggingface.co"), variable("HF_TOKEN", ""), seconds);
}

HubOptions hub_options() {
  const auto progress = std::make_shared<DownloadProgress>();
  return {.folder = cache_folder("models"),
          .http = http_of_environment,
          .say = [=](std::string_view line) { progress->say(line); },
          .progress = [=](std::string_view what, const std::string& file, uint64_t done,
                          uint64_t all) { (*progress)(what, file, done, all); }};
}

void pull(const std::string& name) {
  const ModelName model = ModelName::parse(name);
  fmt::print("{}\n", Hub(hub_options()).pull(model).string());
}

void list() {
  std::vector<std::vector<std::string>> rows = {{"model", "size", "fetched"}};
  for (const CachedModel& model : Hub(hub_options()).cached()) {
    const auto when = std::chrono::file_clock::to_sys(model.when);
    const std::time_t time = std::chrono::system_clock::to_time_t(
        std::chrono::time_point_cast<std::chrono::system_clock::duration>(when));
    rows.push_back({model.name, decimal_bytes(double(model.bytes)),
                    fmt::format("{:%F %H:%M}", fmt::localtime(time)) +
                        (model.complete ? "" : ", not complete: pull goes on")});
  }
  if (rows.size() == 1)
    fmt::print(stderr, "mainspring: no model was pulled yet; mainspring pull does\n");
  else
    print_table(rows);
}

void remove(const std::string& name) {
  const ModelName model = ModelName::parse(name);
  for (const std::filesystem::path& path : Hub(hub_options()).remove(model))
    fmt::print("removed {}\n", path.string());
}

}  // namespace

std::filesystem::path hub_model(const std::string& name) {
  const ModelName model = ModelName::parse(name);
  return Hub(hub_options()).get(model);
}

std::vector<LocalModel> local_models() {
  std::vector<LocalModel> models;
  Hub hub(hub_options());
  std::error_code error, none;
  for (std::filesystem::directory_iterator at(cache_folder("models"), error), end;
       !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    if (!is_hidden(name) && (at->path().extension() == ".gguf" ||
                             std::filesystem::exists(at->path() / "config.json", none)))
      models.push_back({.name = name, .path = at->path()});
  }
  for (const CachedModel& model : hub.cached())
    models.push_back(
        {.name = model.name,
         .path = model.complete ? hub.get(ModelName::parse(model.name)) : std::filesystem::path(),
         .of_hub = true});
  std::ranges::sort(models, {}, &LocalModel::name);
  return models;
}

void add_models(CLI::App& app, const GlobalOptions&) {
  const auto name = std::make_shared<std::string>();
  CLI::App& pulling =
      *app.add_subcommand("pull", "Fetches a model from a hub, or its new version.");
  pulling.add_option("MODEL", *name, "USER/REPO or USER/REPO:WHICH")->required();
  pulling.footer(notes);
  pulling.callback([=] { pull(*name); });
  app.add_subcommand("list", "Lists the models that were pulled.")->callback([] { list(); });
  CLI::App& removing = *app.add_subcommand("rm", "Removes a model that was pulled.");
  removing.add_option("MODEL", *name, "USER/REPO, with all its files, or USER/REPO:WHICH")
      ->required();
  removing.callback([=] { remove(*name); });
}

}  // namespace ms
