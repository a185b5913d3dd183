// tune.cpp: mainspring tune: measures which constants make a model's kernels the fastest here.
#include <algorithm>

#include "apps/bench_model.hpp"

namespace ms {

namespace {

struct Arguments {
  ModelArguments model;
  std::string synthetic;
  bool all = false;
};

constexpr const char* notes =
    R"(Times the matrix-vector products of a decode step of the model with each choice of how they are dealt
out to the device's lanes, and keeps the fastest in the cache directory, from where every command takes
them on this device. Deleting that file takes them back.

Examples:
  mainspring tune -m model.gguf
  mainspring --fast tune --synthetic llama-8b:q4_0)";

// The choices that are tried: every one of these values.
std::vector<gpu::TunedValues> candidates(const gpu::Caps& caps) {
  std::vector<gpu::TunedValues> all;
  for (const uint32_t lanes : {128u, 256u, 512u, 1024u})
    for (const uint32_t rows : {1u, 2u, 4u})
      for (const uint32_t split : {1u, 2u})
        for (const uint32_t unroll : {1u, 2u, 4u})
          for (const uint32_t groups : {0u, 128u, 256u, 512u, 1024u})
            if (lanes <= caps.max_invocations && split * caps.max_subgroup_size <= lanes &&
                (split == 1 || groups == 0))
              all.push_back({{"WORKGROUP_SIZE", lanes},
                             {"ROWS", rows},
                             {"SPLIT", split},
                             {"UNROLL", unroll},
                             {"GROUPS", groups}});
  return all;
}

class Tuner {
 public:
  explicit Tuner(Engine& engine) : engine_(engine), device_(engine.device()) {
    if (device_.caps().tuning) tuning_ = *device_.caps().tuning;
  }

  // The keys of a step, in its order.
  std::vector<std::string> keys() const {
    std::vector<std::string> keys;
    for (const gpu::Dispatch& d : engine_.model().decode(1).dispatches)
      if (!d.tuning_key.empty() && std::ranges::find(keys, d.tuning_key) == keys.end())
        keys.push_back(d.tuning_key);
    return keys;
  }

  // Leaves the fastest choice in the table, if the rules' own is not as fast. Prints what it found.
  void tune(const std::string& key, bool all) {
    tuning_.erase(key);
    const gpu::Work rules = work_of(key);
    const double moved = double(weight_bytes(rules));
    std::vector<gpu::TunedValues> choices;
    std::vector<gpu::Work> works;
    gpu::Work compile;  // a dispatch of each: pipelines compile in parallel
    for (const gpu::TunedValues& choice : candidates(device_.caps())) {
      tuning_[key] = choice;
      try {
        works.push_back(work_of(key));
      } catch (const std::invalid_argument&) {
        continue;  // not for this kernel
      }
      choices.push_back(choice);
      compile.dispatches.push_back(works.back().dispatches.front());
    }
    Progress progress(key);
    device_.record(std::move(compile), [&](size_t done, size_t of) { progress(done, 2 * of); });
    const gpu::Recording first = device_.record(rules);
    device_.warm_up(first);
    std::vector<std::pair<double, size_t>> times;
    for (size_t i = 0; i < works.size(); ++i) {
      progress(works.size() + i, 2 * works.size());
      times.emplace_back(microseconds(device_, device_.record(std::move(works[i]))), i);
    }
    std::ranges::sort(times);
    const double ruled = microseconds(device_, first);
    progress.clear();
    const double each = 1.0 / double(rules.dispatches.size());
    const auto say = [&](double us, const std::string& what) {
      fmt::print("  {:8.2f} us  {:6.1f} GB/s  {}\n", us * each, moved / us / 1e3, what);
    };
    fmt::print("{}\n", key);
    say(ruled, "by rule");
    for (size_t i = 0; i < std::min<size_t>(all ? times.size() : 3, times.size()); ++i)
      say(times[i].first, gpu::to_string(choices[times[i].second]));
    std::fflush(stdout);
    if (times.front().first < ruled)
      tuning_[key] = choices[times.front().second];
    else
      tuning_.erase(key);
    device_.tune(std::make_shared<const gpu::Tuning>(tuning_));
  }

  const gpu::Tuning& table() const { return tuning_; }

 private:
  // The step's dispatches under this key, as the table now says.
  gpu::Work work_of(const std::string& key) {
    device_.tune(std::make_shared<const gpu::Tuning>(tuning_));
    gpu::Work work = engine_.model().decode(1);
    std::erase_if(work.dispatches, [&](const gpu::Dispatch& d) { return d.tuning_key != key; });
    return work;
  }

  static uint64_t weight_bytes(const gpu::Work& work) {
    uint64_t bytes = 0;
    for (const gpu::Dispatch& d : work.dispatches)
      for (const gpu::View& view : d.bindings) bytes += view ? view.bytes() : 0;
    return bytes;
  }

  Engine& engine_;
  gpu::Device& device_;
  gpu::Tuning tuning_;
};

void tune(const GlobalOptions& options, const Arguments& a) {
  ModelInfo model;
  const auto engine = load_bench_model(options, a.model, a.synthetic, 64, 1, model);
  engine->use_chain();  // whose products are tuned
  Tuner tuner(*engine);
  const auto keys = tuner.keys();
  if (keys.empty())
    fail("{} has nothing to tune: its kernels take the form for {}", engine->device().caps().name,
         engine->device().caps().cpu ? "processors" : "devices without subgroups");
  for (const std::string& key : keys) tuner.tune(key, a.all);
  check_paths(*engine);
  const auto file = gpu::tuning_file(cache_folder("tuning"), engine->device().caps());
  gpu::save_tuning(file, tuner.table());
  fmt::print("kept in {}\n", file.string());
}

}  // namespace

void add_tune(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command = *app.add_subcommand("tune", "Measures how this device runs a model fastest.");
  const auto a = std::make_shared<Arguments>();
  command.footer(notes);
  add_model_options(command, a->model);
  add_synthetic_option(command, a->synthetic);
  command.add_flag("--all", a->all, "Print the time of every choice, not of the best alone");
  command.callback([=, &options] { tune(options, *a); });
}

}  // namespace ms
