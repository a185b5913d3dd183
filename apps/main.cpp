// main.cpp: the mainspring program: its global options, its subcommands, and where exceptions end.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <span>

#include "apps/common.hpp"
#include "apps/model_options.hpp"
#include "mainspring.hpp"

namespace {

constexpr const char* examples = R"(Examples:
  mainspring run -m model.gguf "Why is the sky blue?"
  mainspring run -hf ggml-org/gemma-3-270m-it-GGUF "Why is the sky blue?"
  mainspring chat -m model.gguf             a conversation
  mainspring serve -m model.gguf            a server that speaks OpenAI's API
  mainspring bench -m model.gguf            how fast a model runs here
  mainspring doctor                         what this machine can run on, and what is wrong
  mainspring inspect model.gguf             what a model file holds
  mainspring kernels --check                every kernel against its reference, on this device
  mainspring --tier portable kernels --check rmsnorm

mainspring SUBCOMMAND --help says more about each.
Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.)";

// A descriptor that the caller closed would be given to the next file that is opened, and what is
// printed would end there. Reading gives nothing then, and writing to stdout is an error.
void fill_closed_descriptors() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDERR_FILENO ? O_WRONLY : O_RDONLY);
}

// What CLI11 takes for -h with more behind it, like -hx, unless there is a plain -h; else empty.
std::string_view taken_for_help(std::span<char*> arguments) {
  std::string_view taken;
  for (const std::string_view word : arguments) {
    if (word == "-h" || word == "--help") return {};
    if (word.starts_with("-h") && taken.empty()) taken = word;
  }
  return taken;
}

// Options of llama.cpp's programs that have no meaning here, and why. Some of them are taken for
// others: -ngl for -n gl.
const struct {
  std::vector<std::string> names;
  const char* why;
} foreign[] = {
    {{"-ngl", "--gpu-layers", "--n-gpu-layers"}, "the whole model runs on the GPU"},
    {{"-t", "--threads"}, "the GPU does the work"},
    {{"-np", "--parallel"}, "one request is worked on at a time"},
};

// What to say of the first of these, if the subcommand has none of its names; else empty.
std::string about_foreign(const CLI::App& command, std::span<char*> arguments) {
  for (const std::string_view word : arguments) {
    if (word == "--") break;
    const std::string name(word.substr(0, word.find('=')));
    for (const auto& [names, why] : foreign)
      if (std::ranges::find(names, name) != names.end() &&
          std::ranges::none_of(names, [&](auto& n) { return command.get_option_no_throw(n); }))
        return fmt::format("there is no {}: {}, so leave it out", name, why);
  }
  return "";
}

// What CLI11 says, but in the order in which they were given.
std::string about_unexpected(const CLI::App& app) {
  std::vector<std::string> rest = app.remaining(true);
  std::erase(rest, "--");
  return fmt::format("The following argument{} not expected: {}",
                     rest.size() == 1 ? " was" : "s were", fmt::join(rest, " "));
}

int report(const std::exception& error, int code) {
  std::fflush(stdout);
  fmt::print(stderr, "mainspring: error: {}\n", error.what());
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  fill_closed_descriptors();
  CLI::App app("Mainspring runs language models on any GPU through WebGPU.", "mainspring");
  ms::GlobalOptions options;
  app.set_version_flag("--version", fmt::format("mainspring {}", ms::version()));
  app.require_subcommand(1);
  app.fallthrough();  // global options may stand behind the subcommand, too
  app.add_option("--device", options.device,
                 "Adapter to use: its number or part of its name (see `doctor`)")
      ->envname("MAINSPRING_DEVICE");
  app.add_option_function<std::string>(
         "--tier", [&](const std::string& name) { options.tier = ms::gpu::tier_by_name(name); },
         "Features to use: best, portable, subgroups, f16 or matrix")
      ->envname("MAINSPRING_TIER");
  ms::add_flag(app, "--fast", options.fast, "No bounds checks in shaders");
  ms::add_run(app, options);
  ms::add_chat(app, options);
  ms::add_serve(app, options);
  ms::add_bench(app, options);
  ms::add_tune(app, options);
  ms::add_embed(app, options);
  ms::add_logits(app, options);
  ms::add_perplexity(app, options);
  ms::add_models(app, options);
  ms::add_inspect(app, options);
  ms::add_doctor(app, options);
  ms::add_kernels(app, options);
  app.footer(examples);  // last, for subcommands would inherit it

  try {
    app.parse(ms::reversed_arguments(argc, argv));
    if (std::fflush(stdout) != 0)
      ms::fail("cannot write to the standard output: {}", std::strerror(errno));
    return 0;
  } catch (const ms::ExitCode& exit) {
    return exit.code;
  } catch (const CLI::ParseError& error) {
    std::string what = error.what();
    if (error.get_exit_code() == 0) {  // --help, --version
      const std::string_view taken = taken_for_help({argv, size_t(argc)});
      if (taken.empty()) return app.exit(error);
      what = fmt::format("The following argument was not expected: {}", taken);
    }
    if (app.get_subcommands().empty() && argc > 1 && argv[1][0] != '-') {
      fmt::print(stderr,
                 "mainspring: error: there is no subcommand {}; mainspring --help lists them\n",
                 argv[1]);
      return 2;
    }
    std::string command = "mainspring";
    const CLI::App* last = &app;
    for (const CLI::App* sub : app.get_subcommands()) command += " " + sub->get_name(), last = sub;
    if (error.get_exit_code() == int(CLI::ExitCodes::ExtrasError)) what = about_unexpected(app);
    if (const std::string why = about_foreign(*last, {argv, size_t(argc)}); !why.empty())
      what = why;
    fmt::print(stderr, "mainspring: error: {}\n{} --help says what there is.\n", what, command);
    return 2;
  } catch (const std::invalid_argument& error) {
    return report(error, 2);
  } catch (const std::exception& error) {
    return report(error, 1);
  }
}
