// bench_model.hpp: the model that bench and tune time, and perplexity measures: of a file, or of
// random weights.
#pragma once
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "apps/model_options.hpp"

namespace ms {

// What a model is made of, whether its tensors are in a file or not.
struct ModelInfo {
  std::string file, type;
  uint64_t bytes = 0, parameters = 0;
};

// --synthetic SHAPE:TYPE
void add_synthetic_option(CLI::App& command, std::string& synthetic);

// The shape of one. Throws std::invalid_argument for another text.
Config synthetic_shape(const std::string& synthetic);

// Random weights of the shape and type that `synthetic` names, or if it is empty the model of the
// arguments.
std::unique_ptr<Engine> load_bench_model(const GlobalOptions& options,
                                         const ModelArguments& arguments,
                                         const std::string& synthetic, uint32_t context,
                                         uint32_t slots, ModelInfo& model);

// Microseconds of a recording, one run behind the other: the least of several measurements.
double microseconds(gpu::Device& device, const gpu::Recording& recording);

// Token ids that do not repeat soon.
std::vector<uint32_t> some_tokens(Engine& engine, uint32_t count);
Request greedy(uint32_t tokens);

// Puts a sequence into a slot: its last token is what the next step feeds, those before it are
// evaluated with `fill`; else the cache has them.
void start_sequence(Engine& engine, uint32_t slot, std::span<const uint32_t> tokens, bool fill);

// The NMSE between the decode step's logits and a whole batch's. Throws Error where they disagree,
// are not finite, or the greedy step draws another token than the likeliest.
double check_paths(Engine& engine);
// The same between so many sequences in one step, and each one's whole batch.
double check_parallel(Engine& engine, uint32_t sequences);

}  // namespace ms
