// model_options.cpp: the options of the subcommands that load a model.
#include "apps/model_options.hpp"

#include <algorithm>
#include <cstdlib>

#include "apps/models.hpp"

namespace ms {

std::string detail::environment_name(const CLI::Option& option) {
  std::string name = "MAINSPRING_" + option.get_lnames().front();
  for (char& c : name) c = c == '-' ? '_' : char(std::toupper(c));
  return name;
}

CLI::Option* add_flag(CLI::App& command, const std::string& names, bool& value,
                      const std::string& help) {
  CLI::Option* const option = command.add_flag(names, value, help);
  option->check([](const std::string& text) {
    bool is_set = false;
    return CLI::detail::lexical_cast(text, is_set) ? "" : "want true or false, not " + text;
  });
  return option->envname(detail::environment_name(*option));
}

void add_hub_option(CLI::App& command, std::string& hub_model) {
  add_option(command, "--hf-repo", hub_model,
             "-hf, -hfr: instead, a model of a hub, fetched if it is not here (see `pull`)")
      ->type_name("USER/REPO[:WHICH]");
}

std::string model_path(const std::string& model, const std::string& hub_model) {
  const auto from_environment = [](const char* name, const std::string& value) {
    const char* const given = std::getenv(name);
    return given && value == given;
  };
  require(!model.empty() || !hub_model.empty(),
          "there is no model: give -m FILE, or -hf USER/REPO for one of a hub");
  if (hub_model.empty()) return model;
  if (!model.empty() && !from_environment("MAINSPRING_MODEL", model)) {
    require(from_environment("MAINSPRING_HF_REPO", hub_model), "-m {} and -hf {}: give one of them",
            model, hub_model);
    return model;
  }
  return ms::hub_model(hub_model);
}

void require_decoder(const std::filesystem::path& model) {
  if (is_encoder(open_model(model)))
    fail("{} is an encoder: it makes embeddings (mainspring embed), and no text", model.string());
}

void add_context_option(CLI::App& command, uint32_t& context) {
  add_number(command, "-c,--ctx-size", context,
             "Positions of the context; 0: the model's own, of a decoder at most 4096");
}

void add_model_options(CLI::App& command, ModelArguments& a) {
  const CLI::IsMember cache_types({"f32", "f16", "q8_0"});
  add_number(command, "--ubatch-size", a.ubatch,
             "-ub: most tokens of a prompt that a decoder evaluates at once", 1, 65535);
  add_number(command, "-b,--batch-size", a.batch, "The same; the smaller of the two counts", 1,
             65535);
  add_option(
      command, "--cache-type,--cache-type-k", a.cache_type,
      "-ctk: type of a decoder's KV cache, f16, f32 or q8_0, which takes half of f16's memory")
      ->check(cache_types);
  add_option(command, "--cache-type-v", a.cache_type_v, "-ctv: the same, if given")
      ->check(cache_types);
  add_option(
      command, "--activations", a.activations,
      "What a decoder's steps compute with where weights are integers: f32, or integers of 16 "
      "bits, as exact and faster where a GPU multiplies integers by fours; auto chooses")
      ->check(CLI::IsMember({"auto", "f32", "int16"}));
  add_option(
      command, "--step", a.step,
      "How a decoder's token is made: by a chain of kernels, or by persistent ones, fewer "
      "and faster where a GPU runs all their workgroups at once; for F16, BF16, Q8_0, Q4_0 and "
      "Q4_K to Q6_K weights, with integers of 16 bits. One that stalls is taken again by a chain, "
      "as all that follow. auto takes them where a test "
      "of a thousand steps, once a device and model, finds them right and faster")
      ->check(CLI::IsMember({"auto", "chain", "persistent"}));
  add_option(command, "-m,--model", a.model,
             "The model: a GGUF file, or a folder from Hugging Face")
      ->type_name("PATH");
  add_hub_option(command, a.hub_model);
}

EngineOptions engine_options(const GlobalOptions& options, const std::filesystem::path& model,
                             const ModelArguments& a, uint32_t context) {
  require(a.cache_type_v.empty() || a.cache_type_v == a.cache_type,
          "-ctk is {}, -ctv is {}: keys and values are of one type", a.cache_type, a.cache_type_v);
  auto activations = ActivationType::automatic;
  for (const auto type : {ActivationType::f32, ActivationType::int16})
    if (a.activations == to_string(type)) activations = type;
  auto step = Step::automatic;
  for (const auto type : {Step::chain, Step::persistent})
    if (a.step == to_string(type)) step = type;
  const auto weights = std::make_shared<Progress>("reading weights, MiB");
  const auto pipelines = std::make_shared<Progress>("preparing kernels");
  const auto steps = std::make_shared<Progress>("testing persistent steps");
  return {.model = model,
          .device = device_options(options),
          .options = {.context = context,
                      .batch = std::min(a.batch, a.ubatch),
                      .kv_type = kv_type_by_name(a.cache_type),
                      .activations = activations,
                      .step = step},
          .progress =
              [=](std::string_view what, uint64_t done, uint64_t all) {
                const bool bytes = what == "weights";
                Progress& progress = bytes ? *weights : what == "trial" ? *steps : *pipelines;
                progress(bytes ? done >> 20 : done, bytes ? all >> 20 : all);
                if (done == all) progress.clear();
              },
          .notice = [](std::string_view text) { fmt::print(stderr, "mainspring: {}\n", text); }};
}

EngineOptions engine_options(const GlobalOptions& options, const ModelArguments& a,
                             uint32_t context) {
  return engine_options(options, model_path(a.model, a.hub_model), a, context);
}

bool is_given(const CLI::Option& option) {
  const std::string& variable = option.get_envname();
  return option.count() && (variable.empty() || !std::getenv(variable.c_str()));
}

std::vector<std::string> reversed_arguments(int argc, char** argv) {
  std::vector<std::string> arguments(argv + 1, argv + argc);
  const auto end = std::ranges::find(arguments, "--");
  std::replace(arguments.begin(), end, std::string("-hf"), std::string("--hf-repo"));
  std::replace(arguments.begin(), end, std::string("-hfr"), std::string("--hf-repo"));
  std::replace(arguments.begin(), end, std::string("-ub"), std::string("--ubatch-size"));
  std::replace(arguments.begin(), end, std::string("-ctk"), std::string("--cache-type-k"));
  std::replace(arguments.begin(), end, std::string("-ctv"), std::string("--cache-type-v"));
  std::ranges::reverse(arguments);
  return arguments;
}

}  // namespace ms
