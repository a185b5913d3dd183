// model_options.hpp: the options of the subcommands that load a model.
#pragma once
#include <CLI/CLI.hpp>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>

#include "apps/common.hpp"
#include "base/range.hpp"
#include "engine/engine.hpp"

namespace ms {

// An option that an environment variable may give, too: MAINSPRING_TOP_K for --top-k, after the
// first long name. Given twice, the last one counts.
template <class T>
CLI::Option* add_option(CLI::App& command, const std::string& names, T& value,
                        const std::string& help);
// The same of a number, or of a list of numbers, each of a range.
template <class T, class Number = typename CLI::detail::wrapped_type<T, T>::type>
CLI::Option* add_number(CLI::App& command, const std::string& names, T& value,
                        const std::string& help,
                        std::type_identity_t<Number> least = std::numeric_limits<Number>::lowest(),
                        std::type_identity_t<Number> most = std::numeric_limits<Number>::max());
CLI::Option* add_flag(CLI::App& command, const std::string& names, bool& value,
                      const std::string& help);

struct ModelArguments {
  std::string model, hub_model;         // a path, or a name at a hub
  uint32_t batch = 2048, ubatch = 512;  // the smaller one counts
  std::string cache_type = "f16", cache_type_v;
  std::string activations = "auto";
  std::string step = "auto";
};

// -c, of a command that generates or embeds.
void add_context_option(CLI::App& command, uint32_t& context);
// -m, -hf, -ub, -b, -ctk, -ctv, --activations, --step.
void add_model_options(CLI::App& command, ModelArguments& arguments);
// -hf alone, for a command with a way of its own to name a file.
void add_hub_option(CLI::App& command, std::string& hub_model);

// The path of the one that is given; a hub's model is fetched where it is not in the cache. One of
// the command line counts more than one of the environment. Throws std::invalid_argument where
// there is none, or both.
std::string model_path(const std::string& model, const std::string& hub_model);

// Throws Error for an encoder, before anything is asked of it that it cannot do.
void require_decoder(const std::filesystem::path& model);

// Shows progress on a terminal. Throws std::invalid_argument for a cache of two types.
EngineOptions engine_options(const GlobalOptions& options, const std::filesystem::path& model,
                             const ModelArguments& arguments, uint32_t context);
// Of the model that the arguments name.
EngineOptions engine_options(const GlobalOptions& options, const ModelArguments& arguments,
                             uint32_t context);

// Makes what has an engine. Its context is not -c's: an error that tells to change that names these
// options instead.
auto with_context_of(std::string_view options, auto&& make) {
  try {
    return make();
  } catch (const Error& error) {
    std::string what = error.what();
    const size_t at = what.find("(-c)");
    if (at == what.npos) throw;
    fail("{}", what.replace(at, 4, fmt::format("({})", options)));
  }
}

// Whether an option stands on the command line: a variable of the environment may be meant for
// other commands.
bool is_given(const CLI::Option& option);

// argv without the program's name, the spellings that llama.cpp has but CLI11 cannot parse (-hf,
// -hfr, -ub, -ctk, -ctv) replaced by the long ones; last argument first, as CLI11 takes it.
std::vector<std::string> reversed_arguments(int argc, char** argv);

namespace detail {
std::string environment_name(const CLI::Option& option);
}  // namespace detail

template <class T>
CLI::Option* add_option(CLI::App& command, const std::string& names, T& value,
                        const std::string& help) {
  CLI::Option* const option = command.add_option(names, value, help)->capture_default_str();
  if constexpr (!CLI::detail::is_mutable_container<T>::value) option->take_last();
  return option->envname(detail::environment_name(*option));
}

template <class T, class Number>
CLI::Option* add_number(CLI::App& command, const std::string& names, T& value,
                        const std::string& help, std::type_identity_t<Number> least,
                        std::type_identity_t<Number> most) {
  const std::string range = ms::range(least, most);
  const auto check = [=](const std::string& text) {
    Number number{};
    if (CLI::detail::lexical_cast(text, number) && number >= least && number <= most)
      return std::string();
    return fmt::format("want a {}{}{}, not {}",
                       std::is_integral_v<Number> ? "whole number" : "number",
                       range.empty() ? "" : ", ", range, text);
  };
  using Limits = std::numeric_limits<Number>;
  const bool all = least == Limits::lowest() && most == Limits::max();
  return add_option(command, names, value, help)->check(CLI::Validator(check, all ? "" : range));
}

}  // namespace ms
