// bench.cpp: mainspring bench: how fast a model runs here, in the manner of llama-bench.
//
// Nothing is timed before the decode step and the batch path have agreed in the same process.
#include <fmt/chrono.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "apps/bandwidth.hpp"
#include "apps/bench_model.hpp"
#include "apps/kernel_bench.hpp"
#include "engine/steps_ahead.hpp"

namespace ms {

namespace {

using Json = nlohmann::ordered_json;
using Clock = std::chrono::steady_clock;

constexpr const char* notes =
    R"(pp: tokens of a prompt into the cache. tg: tokens generated greedily, one after the other, as `run`
generates them, or with --parallel of so many sequences at once, t/s of all together. Each is run once
before it is timed. GB/s: weights, keys and values that a step reads; their share is of the fastest
that a kernel here read or copied large buffers. busy: how much of a generation, of one run more, the
device was at work, by its own clock.

Examples:
  mainspring bench -m model.gguf
  mainspring bench --synthetic llama-8b:q4_0 -p 512 -n 128 -d 0,4096 -o json
  mainspring bench --synthetic llama-8b:q4_0 -p 0 -d 512 --parallel 1,8,64
  mainspring bench -m model.gguf --dispatches
  mainspring bench --kernels rmsnorm softmax)";

struct Arguments {
  ModelArguments model;
  std::string synthetic, format = "md";
  std::vector<uint32_t> prompts = {512}, generations = {128}, depths = {0}, parallel = {1};
  uint32_t repetitions = 5;
  bool dispatches = false;
  std::vector<std::string> kernels;
};

struct Test {
  uint32_t prompt = 0, generate = 0, depth = 0;  // tokens; either prompt or generate is 0
  uint32_t parallel = 1;                         // sequences that generate

  std::string name() const {
    std::string what = prompt ? fmt::format("pp{}", prompt) : fmt::format("tg{}", generate);
    if (parallel > 1) what += fmt::format(" x {}", parallel);
    return depth ? fmt::format("{} @ d{}", what, depth) : what;
  }
};

struct Summary {
  double mean = 0, deviation = 0;  // of the sample
};

Summary summary(const std::vector<double>& samples) {
  Summary s;
  s.mean = std::reduce(samples.begin(), samples.end()) / double(samples.size());
  double squares = 0;
  for (double x : samples) squares += (x - s.mean) * (x - s.mean);
  if (samples.size() > 1) s.deviation = std::sqrt(squares / double(samples.size() - 1));
  return s;
}

// Seconds in which so many sequences, each after `depth` tokens of its own, generate theirs at
// once. The tokens before are evaluated with `fill`; else the cache has them.
double run_parallel(Engine& engine, const Test& test, bool fill) {
  gpu::Device& device = engine.device();
  const gpu::Recording& step = engine.step(true, test.parallel);
  const gpu::View slots = engine.model().slots().slice(0, {test.parallel, sizeof(Slot) / 4});
  const std::vector<uint32_t> before = some_tokens(engine, test.depth + test.parallel);
  for (uint32_t slot = 0; slot < test.parallel; ++slot)
    start_sequence(engine, slot, std::span(before).subspan(slot, test.depth + 1), fill);
  device.finish();
  const auto start = Clock::now();
  StepsAhead ahead(device);
  std::vector<std::byte> state;
  for (uint32_t i = 0; i < test.generate || ahead.size() > 0;) {
    i += ahead.fill(step, slots, test.generate - i);
    state = ahead.next();
  }
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  for (uint32_t slot = 0; slot < test.parallel; ++slot) {
    Slot at;
    std::memcpy(&at, state.data() + slot * sizeof(Slot), sizeof(Slot));
    if (at.position != test.depth + test.generate)
      fail("sequence {} is at position {}, not {}", slot, at.position, test.depth + test.generate);
  }
  return seconds;
}

// Seconds of one run.
double run_once(Engine& engine, const Test& test, bool first) {
  if (test.parallel > 1) return run_parallel(engine, test, first);
  const std::vector<uint32_t> before = some_tokens(engine, test.depth + 1);
  if (test.generate) {
    const Step step = engine.model().options().step;
    const double seconds = engine.generate(before, greedy(test.generate)).generate_seconds;
    if (engine.model().options().step != step)
      fail("a persistent step stalled: this device does not run its workgroups at once");
    return seconds;
  }
  const std::vector<uint32_t> tokens = some_tokens(engine, test.prompt);
  engine.prefill(std::span(before).first(test.depth), 0);
  engine.device().finish();
  const auto start = Clock::now();
  engine.prefill(tokens, test.depth);
  engine.device().finish();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// What part of a generation, from its first step's begin to its last one's end, the device was at
// work; none on a device without timestamps, or where steps may be more than a trace holds, beside
// the submissions of what is before them.
std::optional<double> busy_share(Engine& engine, const Test& test) {
  if (!engine.device().caps().timestamps || test.generate > 1024) return {};
  engine.device().start_trace();
  run_once(engine, test, false);
  const std::vector<gpu::Span> spans = engine.device().take_trace();
  double busy = 0;
  const auto steps = std::span(spans).last(std::min<size_t>(spans.size(), test.generate));
  for (const gpu::Span& step : steps) busy += step.end - step.begin;
  return busy / (steps.back().end - steps.front().begin);
}

// Weights that a step reads, and the keys and values of the positions before it on average.
uint64_t bytes_per_step(Engine& engine, const Test& test) {
  const Decoder& model = engine.model();
  const Config& c = model.config();
  const KvType type = model.options().kv_type;
  const uint64_t position = 2ull * c.layers * kv_shape(type, 1, c.kv_heads, c.head_dim).size() *
                            bytes_of(element_type(type));
  return model.bytes_per_token() + test.parallel * position * (test.depth + test.generate / 2);
}

uint32_t most_parallel(const Arguments& a) { return *std::ranges::max_element(a.parallel); }

void print_markdown(std::vector<std::vector<std::string>> rows) {
  const std::vector<std::string> rule(rows.front().size(), "---");
  rows.insert(rows.begin() + 1, rule);
  for (const auto& row : rows) fmt::print("| {} |\n", fmt::join(row, " | "));
}

struct Bench {
  const Arguments& arguments;
  Engine& engine;
  ModelInfo model;
  double nmse;
  Bandwidth bandwidth;

  // What a figure was measured under.
  Json conditions(const Test& test) const {
    const gpu::Caps& caps = engine.device().caps();
    return {{"build_commit", MS_COMMIT},
            {"cpu_info", cpu_name()},
            {"gpu_info", caps.name},
            {"backends", fmt::format("WebGPU ({})", caps.backend)},
            {"model_filename", model.file},
            {"model_type", model.type},
            {"model_size", model.bytes},
            {"model_n_params", model.parameters},
            {"n_batch", engine.model().options().batch},
            {"n_ubatch", engine.model().options().batch},
            {"type_k", arguments.model.cache_type},
            {"type_v", arguments.model.cache_type},
            {"n_prompt", test.prompt},
            {"n_gen", test.generate},
            {"n_depth", test.depth},
            {"n_parallel", test.parallel},
            {"test_time", fmt::format("{:%FT%TZ}", fmt::gmtime(std::time(nullptr)))},
            {"driver", caps.driver},
            {"variant", to_string(caps.variant)},
            {"robust", caps.robust},
            {"activations", to_string(engine.model().options().activations)},
            {"step", test.parallel > 1 ? "chain" : to_string(engine.model().options().step)},
            {"weights_bytes", engine.model().weight_bytes()},
            {"weights_seconds", engine.model().load_seconds()},
            {"nmse_step_to_batch", nmse},
            {"bandwidth_gb_per_s", bandwidth.gb_per_s},
            {"bandwidth_measured_by", bandwidth.how}};
  }

  Json to_json(const Test& test, const std::vector<double>& seconds,
               std::optional<double> busy) const {
    std::vector<double> ns, rates;
    for (double s : seconds) {
      ns.push_back(std::round(s * 1e9));
      rates.push_back((test.prompt + test.generate * test.parallel) / s);
    }
    const Summary time = summary(ns), rate = summary(rates);
    Json json = conditions(test);
    json.update({{"avg_ns", std::round(time.mean)},
                 {"stddev_ns", std::round(time.deviation)},
                 {"avg_ts", rate.mean},
                 {"stddev_ts", rate.deviation},
                 {"samples_ns", ns},
                 {"samples_ts", rates}});
    if (test.generate) {
      const double bytes = double(bytes_per_step(engine, test)) / test.parallel;
      const double gb_per_s = bytes * rate.mean / 1e9;
      json["bytes_per_token"] = std::round(bytes);
      json["gb_per_s"] = gb_per_s;
      json["share_of_bandwidth"] = gb_per_s / bandwidth.gb_per_s;
      json["dispatches_per_step"] = engine.step(true, test.parallel).dispatches().size();
      if (busy) json["gpu_busy"] = *busy;
    }
    return json;
  }

  std::vector<std::string> to_row(const Json& json, const Test& test) const {
    return {model.type,
            binary_bytes(model.bytes),
            fmt::format("{:.2f} M", double(model.parameters) / 1e6),
            json["backends"],
            test.name(),
            fmt::format("{:.2f} ± {:.2f}", json["avg_ts"].get<double>(),
                        json["stddev_ts"].get<double>()),
            test.generate ? fmt::format("{:.1f}", json["gb_per_s"].get<double>()) : "",
            test.generate ? fmt::format("{:.0f} %", 100 * json["share_of_bandwidth"].get<double>())
                          : "",
            json.contains("gpu_busy")
                ? fmt::format("{:.1f} %", 100 * json["gpu_busy"].get<double>())
                : ""};
  }

  void print_conditions() const {
    const gpu::Caps& caps = engine.device().caps();
    fmt::print("\n{}, {}, {}, {} bounds checks; commit {}\n", caps.name, caps.driver,
               to_string(caps.variant), caps.robust ? "with" : "without", MS_COMMIT);
    fmt::print("{} KV cache, {} activations, {} dispatches a step ({})\n",
               arguments.model.cache_type, to_string(engine.model().options().activations),
               engine.step(true).dispatches().size(), to_string(engine.model().options().step));
    fmt::print("checked: decode step{} and batch agree, NMSE {:.1e}\n",
               most_parallel(arguments) > 1 ? ", sequences side by side" : "", nmse);
    fmt::print("bandwidth: {:.1f} GB/s, {}\n", bandwidth.gb_per_s, bandwidth.how);
    const Decoder& decoder = engine.model();
    fmt::print("weights: {} read, packed and sent in {:.2f} s, {:.1f} GB/s\n",
               binary_bytes(decoder.weight_bytes()), decoder.load_seconds(),
               double(decoder.weight_bytes()) / decoder.load_seconds() / 1e9);
  }
};

// Dispatches of one kernel over the same tensor of each layer.
struct Group {
  std::string_view kernel;
  std::string tensor;
  uint64_t bytes = 0;
  gpu::Work work = {};
  double us = 0;  // together, one after the other
};

// What a dispatch reads and writes, with `filled` positions in the cache: of its bindings all, but
// of the cache and of the embedding what it touches.
uint64_t moved_bytes(const gpu::Dispatch& d, uint32_t filled, uint32_t context, uint32_t parallel,
                     uint32_t slots) {
  if (d.kernel == &gather_kernel) return 2 * d.bindings.back().bytes();
  if (d.kernel == &split_qkv_kernel) return 2 * d.bindings.front().bytes();
  uint64_t bytes = 0;
  for (const gpu::View& view : d.bindings) {
    if (!view) continue;
    const bool cache = view.buffer->label == "keys" || view.buffer->label == "values";
    bytes += cache ? view.bytes() / slots * parallel * filled / context : view.bytes();
  }
  return bytes;
}

// The weights that a dispatch reads, without their layer: "attn_q" of "blk.3.attn_q.weight".
std::string tensor_of(const gpu::Dispatch& d) {
  std::string name;
  uint64_t bytes = 0;
  for (const gpu::View& view : d.bindings) {
    if (!view) continue;
    const std::string& label = view.buffer->label_at(view.offset);
    if (view.bytes() > bytes && label.ends_with(".weight")) name = label, bytes = view.bytes();
  }
  if (name.starts_with("blk.")) name.erase(0, name.find('.', 4) + 1);
  return name.substr(0, name.rfind('.'));
}

// The dispatches of a step or a prompt by groups, in their order, and all of them together.
struct Listing {
  double whole_us = 0;  // of the recording, as it runs
  std::vector<Group> groups;
  Group all{"all", ""};  // us: the groups' sum
};

// Times the whole, and the dispatches of each group one after the other.
Listing list_dispatches(Engine& engine, const Test& test, const gpu::Recording& recording) {
  gpu::Device& device = engine.device();
  const uint32_t context = engine.model().context(),
                 filled = test.depth + std::max(test.prompt, 1u);
  const auto start = [&] {
    for (uint32_t slot = 0; slot < test.parallel; ++slot)
      engine.write_slot({.position = test.depth, .limit = context, .stopped = Stopped::running},
                        slot);
  };
  device.warm_up(recording);  // which fills the context
  start();
  Listing list;
  auto& [whole, groups, all] = list;
  whole = microseconds(device, recording);
  for (const gpu::Dispatch& d : recording.dispatches()) {
    const std::string tensor = tensor_of(d);
    auto group = std::ranges::find_if(
        groups, [&](const Group& g) { return g.kernel == d.kernel->name && g.tensor == tensor; });
    if (group == groups.end()) group = groups.insert(groups.end(), {d.kernel->name, tensor});
    for (Group* g : {&*group, &all}) {
      g->work.dispatches.push_back(d);
      g->bytes += moved_bytes(d, filled, context, test.parallel, engine.model().options().slots);
    }
  }
  for (Group& g : groups) {
    start();
    all.us += g.us = microseconds(device, device.record(g.work));
  }
  return list;
}

Json to_json(const Listing& list) {
  Json dispatches = Json::array();
  for (const Group& g : list.groups)
    dispatches.push_back({{"kernel", g.kernel},
                          {"weights", g.tensor},
                          {"count", g.work.dispatches.size()},
                          {"us", g.us},
                          {"bytes", g.bytes},
                          {"gb_per_s", double(g.bytes) / g.us / 1e3}});
  return {{"whole_us", list.whole_us}, {"sum_us", list.all.us}, {"dispatches", dispatches}};
}

void print_dispatches(const Test& test, const Listing& list) {
  const auto& [whole, groups, all] = list;
  std::vector<std::vector<std::string>> rows = {
      {"kernel", "weights", "count", "us each", "us", "share", "MB each", "GB/s"}};
  const auto add = [&](const Group& g) {
    const double count = double(g.work.dispatches.size()), mb = double(g.bytes) / 1e6;
    rows.push_back({std::string(g.kernel), g.tensor, fmt::format("{}", g.work.dispatches.size()),
                    fmt::format("{:.1f}", g.us / count), fmt::format("{:.1f}", g.us),
                    fmt::format("{:.1f} %", 100 * g.us / all.us), fmt::format("{:.3f}", mb / count),
                    fmt::format("{:.1f}", 1e3 * mb / g.us)});
  };
  for (const Group& g : groups) add(g);
  add(all);
  fmt::print("\n{}: {:.1f} us\n\n", test.name(), whole);
  print_markdown(rows);
}

void bench(const GlobalOptions& options, const Arguments& a) {
  std::vector<Test> tests;
  for (const uint32_t depth : a.depths) {
    for (const uint32_t n : a.prompts)
      if (n) tests.push_back({.prompt = n, .depth = depth});
    for (const uint32_t n : a.generations)
      for (const uint32_t parallel : a.parallel)
        if (n) tests.push_back({.generate = n, .depth = depth, .parallel = parallel});
  }
  require(!tests.empty(), "nothing to time: -p and -n are 0");
  uint32_t context = 64;  // room for the check, and for the steps that --dispatches takes
  for (const Test& test : tests)
    context = std::max(context, 64 + test.depth + test.prompt + test.generate);

  ModelInfo model;
  const auto engine = with_context_of("-d with -p or -n", [&] {
    return load_bench_model(options, a.model, a.synthetic, context, most_parallel(a), model);
  });
  // Dawn gives the memory of this back two submissions later, which takes up to a tenth of a
  // second: those are the check's.
  const Bandwidth bandwidth = measure_bandwidth(engine->device());
  double nmse = check_paths(*engine);
  for (const uint32_t parallel : a.parallel)
    if (parallel > 1) nmse = std::max(nmse, check_parallel(*engine, parallel));
  const Bench bench{a, *engine, model, nmse, bandwidth};

  Json results = Json::array();
  if (a.dispatches) {
    if (a.format == "md") fmt::print("{}, {}\n", model.type, binary_bytes(model.bytes));
    for (Test test : tests) {
      test.prompt = std::min(test.prompt, engine->model().options().batch);
      const Listing list = test.generate
                               ? list_dispatches(*engine, test, engine->step(true, test.parallel))
                               : list_dispatches(*engine, test,
                                                 engine->device().record(engine->model().prefill(
                                                     test.prompt, 0, Decoder::Want::nothing)));
      if (a.format == "md") print_dispatches(test, list);
      results.push_back(bench.conditions(test));
      results.back().update(to_json(list));
    }
    if (a.format == "md") return bench.print_conditions();
    fmt::print("{}\n", results.dump(2));
    return;
  }

  std::vector<std::vector<std::string>> rows = {
      {"model", "size", "params", "backend", "test", "t/s", "GB/s", "of bandwidth", "busy"}};
  for (const Test& test : tests) {
    Progress progress(test.name());
    std::vector<double> seconds;
    run_once(*engine, test, true);
    for (uint32_t i = 0; i < a.repetitions; ++i) {
      progress(i, a.repetitions);
      seconds.push_back(run_once(*engine, test, false));
    }
    const auto busy = test.generate ? busy_share(*engine, test) : std::nullopt;
    results.push_back(bench.to_json(test, seconds, busy));
    rows.push_back(bench.to_row(results.back(), test));
  }
  if (a.format == "json") {
    fmt::print("{}\n", results.dump(2));
    return;
  }
  print_markdown(rows);
  bench.print_conditions();
}

}  // namespace

void add_bench(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command =
      *app.add_subcommand("bench", "Times a model: prompt processing and generation.");
  const auto a = std::make_shared<Arguments>();
  command.footer(notes);
  add_model_options(command, a->model);
  add_synthetic_option(command, a->synthetic);
  const auto list = [&](const char* names, std::vector<uint32_t>& values, const char* help) {
    add_number(command, names, values, help, 0, 1 << 20)
        ->delimiter(',')
        ->allow_extra_args(false)
        ->type_name("N,…");
  };
  list("-p,--n-prompt", a->prompts, "Tokens of the prompts; 0: none");
  list("-n,--n-gen", a->generations, "Tokens to generate; 0: none");
  list("-d,--n-depth", a->depths, "Tokens that are in the cache before");
  add_number(command, "--parallel", a->parallel, "Sequences that generate at once", 1, 1024)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("N,…");
  add_number(command, "-r,--repetitions", a->repetitions, "Times that each test is run", 1, 1000);
  command.add_option("-o,--output", a->format, "How to print: md or json")
      ->check(CLI::IsMember({"md", "json"}))
      ->capture_default_str();
  add_flag(command, "--dispatches", a->dispatches,
           "Instead, list the dispatches of a step and of a prompt, with the time of each");
  CLI::Option* const kernels =
      command
          .add_option("--kernels", a->kernels,
                      "Instead, time the kernels, or those named, at the shapes of models")
          ->expected(0, -1)
          ->type_name("[NAME…]");
  command.callback([=, &options, &command] {
    std::erase(a->kernels, "");  // CLI11's form of --kernels without names
    if (kernels->count()) {
      require_kernels(a->kernels);
      for (const CLI::Option* option : command.get_options())  // those of models have variables
        require(option->get_envname().empty() || !is_given(*option), "bench --kernels takes no {}",
                option->get_name(false, true));
      bench_kernels(options, a->kernels, a->format == "json");
    } else {
      bench(options, *a);
    }
  });
}

}  // namespace ms
