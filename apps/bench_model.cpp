// bench_model.cpp: loading a model to be timed, and the check before anything is timed.
#include "apps/bench_model.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <map>
#include <numeric>

#include "base/nmse.hpp"

namespace ms {

namespace {

ModelInfo describe(const Catalog& catalog, const std::string& name) {
  ModelInfo model;
  model.file = catalog.source;
  std::map<TensorType, uint64_t> parameters;
  for (const auto& [_, tensor] : catalog.tensors) {
    const TypeInfo& type = info(tensor.type);
    parameters[tensor.type] += tensor.elements();
    model.parameters += tensor.elements();
    model.bytes += tensor.elements() / type.block_size * type.block_bytes;
  }
  const auto most = std::ranges::max_element(parameters, {}, [](auto& p) { return p.second; });
  model.type = fmt::format("{} {}", name, info(most->first).name);
  return model;
}

}  // namespace

void add_synthetic_option(CLI::App& command, std::string& synthetic) {
  add_option(command, "--synthetic", synthetic,
             "Random weights instead of a file, whatever -m and -hf say: llama-8b, llama-1b or "
             "mixtral-8x7b, a colon, a tensor type or the mix q4_k_m or q5_k_m")
      ->type_name("SHAPE:TYPE");
}

Config synthetic_shape(const std::string& synthetic) {
  const size_t colon = synthetic.find(':');
  require(colon != std::string::npos, "--synthetic {}: want SHAPE:TYPE, like llama-8b:q4_0",
          synthetic);
  return config_by_name(synthetic.substr(0, colon));
}

std::unique_ptr<Engine> load_bench_model(const GlobalOptions& global,
                                         const ModelArguments& arguments,
                                         const std::string& synthetic, uint32_t context,
                                         uint32_t slots, ModelInfo& model) {
  const std::string path =
      synthetic.empty() ? model_path(arguments.model, arguments.hub_model) : std::string();
  EngineOptions options = engine_options(global, path, arguments, context);
  options.options.slots = slots;
  if (synthetic.empty()) {
    require_decoder(options.model);
    auto engine = std::make_unique<Engine>(options);
    model = describe(Catalog::of(open_model(options.model)), engine->model().config().name);
    return engine;
  }
  const Config config = synthetic_shape(synthetic);
  const std::string type = synthetic.substr(synthetic.find(':') + 1);
  const bool tied = config.name == "llama-1b";
  model = describe(Catalog::synthetic(config, type, tied), config.name);
  return std::make_unique<Engine>(options, config, type, tied);
}

double microseconds(gpu::Device& device, const gpu::Recording& recording) {
  using Clock = std::chrono::steady_clock;
  const int repeats =
      int(std::max<size_t>(4, 128 / std::max<size_t>(1, recording.dispatches().size())));
  double least = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 5; ++run) {
    device.finish();
    const auto start = Clock::now();
    for (int i = 0; i < repeats; ++i) device.submit(recording);
    device.finish();
    const std::chrono::duration<double, std::micro> time = Clock::now() - start;
    least = std::min(least, time.count() / repeats);
  }
  return least;
}

std::vector<uint32_t> some_tokens(Engine& engine, uint32_t count) {
  const uint32_t vocab = engine.model().config().vocab;
  std::vector<uint32_t> tokens(count);
  for (uint32_t i = 0; i < count; ++i) tokens[i] = uint32_t(i * 7919ull % vocab);
  return tokens;
}

Request greedy(uint32_t tokens) {
  Request request;
  request.sampling.temperature = 0;
  request.max_tokens = tokens;
  request.ignore_eos = true;
  return request;
}

namespace {

// The NMSE of what a step made. Throws Error beyond what rounding explains: a deep network of
// random weights multiplies what is rounded some hundred times; a wrong row is 1.
double compare(std::span<const float> step, std::span<const float> batch) {
  constexpr double limit = 1e-4;
  const double nmse = ms::nmse(step, batch);
  if (!(nmse < limit))
    fail("nothing was timed: decode step and batch differ, NMSE {:.1e}, limit {:.0e}", nmse, limit);
  return nmse;
}

}  // namespace

double check_paths(Engine& engine) {
  const std::vector<uint32_t> tokens = some_tokens(engine, 24);
  std::vector<uint32_t> rows(tokens.size());
  std::iota(rows.begin(), rows.end(), 0u);
  const std::vector<float> step = engine.logits(tokens, rows, 1);
  const std::vector<float> batch = engine.logits(tokens, rows, uint32_t(tokens.size()));
  const double nmse = compare(step, batch);
  const std::span last = std::span(step).last(engine.model().config().vocab);
  const uint32_t token = engine.generate(tokens, greedy(1)).tokens.front();
  if (last[token] < *std::ranges::max_element(last))
    fail("nothing was timed: the greedy step drew token {}, which is not the likeliest", token);
  return nmse;
}

void start_sequence(Engine& engine, uint32_t slot, std::span<const uint32_t> tokens, bool fill) {
  const uint32_t filled = uint32_t(tokens.size()) - 1;
  if (fill) engine.prefill(tokens.first(filled), 0, {}, slot);
  engine.write_slot({.token = tokens.back(),
                     .position = filled,
                     .limit = engine.model().context(),
                     .stopped = Stopped::running},
                    slot);
}

double check_parallel(Engine& engine, uint32_t sequences) {
  constexpr uint32_t length = 9;
  const uint32_t vocab = engine.model().config().vocab;
  const std::vector<uint32_t> all = some_tokens(engine, length + sequences);
  const auto tokens = [&](uint32_t slot) { return std::span(all).subspan(slot, length); };
  std::vector<float> batch;
  for (uint32_t slot = 0; slot < sequences; ++slot) {
    const uint32_t last[] = {length - 1};
    const std::vector<float> logits = engine.logits(tokens(slot), last, length);
    batch.insert(batch.end(), logits.begin(), logits.end());
  }
  for (uint32_t slot = 0; slot < sequences; ++slot)
    start_sequence(engine, slot, tokens(slot), true);
  engine.device().submit(engine.step(true, sequences));
  const gpu::View logits = engine.model().logits();
  const auto bytes = engine.device().read(*logits.buffer, logits.offset, 4ull * sequences * vocab);
  std::vector<float> step(bytes.size() / sizeof(float));
  std::memcpy(step.data(), bytes.data(), bytes.size());
  return compare(step, batch);
}

}  // namespace ms
