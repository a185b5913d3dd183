// run.cpp: mainspring run: text in, text out.
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <iterator>
#include <random>

#include "apps/model_options.hpp"

namespace ms {

namespace {

constexpr const char* notes =
    R"(The prompt is the arguments, -p, or the standard input. A model with a chat template answers it;
other models, and every model with --raw, continue it. The text ends with a line feed.
Each option has an environment variable, named beside it. -p, -m and so on are as in llama.cpp.

Examples:
  mainspring run -m model.gguf "Why is the sky blue?"
  mainspring run -hf ggml-org/gemma-3-270m-it-GGUF:Q8_0 "Why is the sky blue?"
  mainspring run -m model.gguf --system "Answer in one line." -n 60 --temp 0 "What is a llama?"
  mainspring run -m model.gguf --raw --seed 7 -n 200 "Once upon a time"
  mainspring run -m model.gguf -c 8192 < letter.txt

Exit codes: 0 done (the model stopped, -n was reached, the context was full), 1 failed, 2 wrong use,
130 interrupted by Ctrl-C.)";

struct Arguments {
  ModelArguments model;
  std::vector<std::string> words;
  std::string prompt, system;
  bool raw = false, verbose = false;
  uint32_t context = 0;
  int64_t seed = -1;
  Request request;
};

std::atomic<bool> interrupted = false;
static_assert(std::atomic<bool>::is_always_lock_free);  // so that a signal handler may set it

// The first Ctrl-C ends the generation, the second the program.
void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = true; };
  action.sa_flags = SA_RESTART | SA_RESETHAND;
  sigaction(SIGINT, &action, nullptr);
}

// The text on its way to stdout: a line that is begun is ended, whatever happens.
class Output {
 public:
  ~Output() {
    if (!error_ && !at_line_start_) std::putchar('\n');
    std::fflush(stdout);
  }
  bool write(std::string_view text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
      error_ = errno;
    at_line_start_ = text.ends_with('\n');
    return !error_;
  }
  int error() const { return error_; }

 private:
  bool at_line_start_ = true;
  int error_ = 0;
};

std::string read_prompt() {
  require(!isatty(STDIN_FILENO),
          "there is no prompt: give one as an argument, with -p, or on stdin");
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  if (text.ends_with('\n')) text.pop_back();
  if (text.ends_with('\r')) text.pop_back();
  return text;
}

std::vector<uint32_t> encode(const Engine& engine, const Arguments& a, const std::string& prompt) {
  const bool chat = engine.chat_template() && !a.raw && !(prompt.empty() && a.system.empty());
  require(chat || a.system.empty(), "--system: {}",
          a.raw ? "--raw takes none" : "the model has no chat template");
  if (chat) {
    auto messages = ChatTemplate::Json::array();
    if (!a.system.empty()) messages.push_back({{"role", "system"}, {"content", a.system}});
    messages.push_back({{"role", "user"}, {"content", prompt}});
    return engine.encode_chat(messages);
  }
  std::vector<uint32_t> tokens = engine.encode(prompt);
  if (tokens.empty() && engine.tokenizer().bos()) tokens = {*engine.tokenizer().bos()};
  return tokens;
}

std::string_view to_string(Finish finish) {
  switch (finish) {
    case Finish::stop_token:
      return "the model stopped";
    case Finish::stop_string:
      return "a stop string";
    case Finish::max_tokens:
      return "-n tokens";
    case Finish::context_full:
      return "the context is full";
    case Finish::cancelled:
      return "interrupted";
  }
  return "";
}

void print_rates(const Generation& g, double load_seconds, uint32_t seed) {
  const auto rate = [](size_t tokens, double seconds) {
    return fmt::format("{} tokens, {:.2f} s, {:.1f} tokens/s", tokens, seconds,
                       seconds > 0 ? double(tokens) / seconds : 0.0);
  };
  fmt::print(stderr,
             "load:       {:.2f} s, kernels {:.2f} s\n"
             "prompt:     {}\n"
             "generation: {}\n"
             "end:        {}\n"
             "seed:       {}\n",
             load_seconds, g.record_seconds,
             rate(g.prompt_tokens - 1 - g.cached_tokens, g.prompt_seconds),
             rate(g.tokens.size(), g.generate_seconds), to_string(g.finish), seed);
}

void run(const GlobalOptions& options, Arguments& a, bool prompt_given) {
  const std::string prompt = !a.words.empty() ? fmt::format("{}", fmt::join(a.words, " "))
                             : prompt_given   ? a.prompt
                                              : read_prompt();
  a.request.sampling.seed = a.seed < 0 ? std::random_device()() : uint32_t(a.seed);

  const auto start = std::chrono::steady_clock::now();
  Engine engine(
      engine_options(options, model_path(a.model.model, a.model.hub_model), a.model, a.context));
  const std::vector<uint32_t> tokens = encode(engine, a, prompt);
  const double load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  catch_interrupts();
  Generation generation;
  int error = 0;
  {
    Output output;
    generation = engine.generate(
        tokens, a.request, [&](std::string_view text) { return output.write(text); },
        [] { return !interrupted; });
    error = output.error();
  }
  if (error == EPIPE) throw ExitCode{128 + SIGPIPE};  // the reader has gone, as `head` does
  if (error) fail("cannot write to the standard output: {}", std::strerror(error));
  if (generation.finish == Finish::context_full)
    fmt::print(stderr, "mainspring: context full: {} tokens, {} of them the prompt; raise -c\n",
               engine.model().context(), generation.prompt_tokens);
  if (a.verbose) print_rates(generation, load_seconds, a.request.sampling.seed);
  if (interrupted) throw ExitCode{128 + SIGINT};
}

}  // namespace

void add_run(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command = *app.add_subcommand("run", "Answers a prompt, or continues a text.");
  const auto a = std::make_shared<Arguments>();
  Sampling& s = a->request.sampling;
  command.footer(notes);
  // A number of words instead of any number, for which CLI11 would take "[a,b]" apart.
  CLI::Option* const words =
      command.add_option("words", a->words, "The prompt, in one or more words")
          ->expected(INT16_MAX)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
          ->allow_extra_args(false)
          ->option_text("TEXT…");
  CLI::Option* const prompt =
      add_option(command, "-p,--prompt", a->prompt, "The prompt")->excludes(words);
  add_model_options(command, a->model);
  add_option(command, "-c,--ctx-size", a->context,
             "Positions of the context; 0: the model's own, at most 4096");
  add_option(command, "-n,--predict", a->request.max_tokens,
             "Most tokens to generate; -1: until the model stops or the context is full");
  add_option(command, "--system", a->system, "A system turn before the prompt");
  add_flag(command, "--raw", a->raw, "Continue the text: no chat template");
  add_option(command, "--temp", s.temperature, "Temperature; 0: always the likeliest token");
  add_option(command, "--top-k", s.top_k, "Draw from the k likeliest tokens; 0: from all");
  add_option(command, "--top-p", s.top_p,
             "Draw from the likeliest that make up this share; 1: off");
  add_option(command, "--min-p", s.min_p,
             "Least share of the likeliest token's probability; 0: off");
  add_option(command, "--repeat-penalty", s.repeat_penalty, "Weakens repeated tokens; 1: off");
  add_option(command, "--repeat-last-n", s.repeat_last_n,
             "Tokens that penalties look back; 0: off");
  add_option(command, "--presence-penalty", s.presence_penalty, "Taken off logits of tokens seen");
  add_option(command, "--frequency-penalty", s.frequency_penalty, "The same, times how often");
  add_option(command, "-s,--seed", a->seed, "Seed of the draws; -1: a random one")
      ->check(CLI::Range(int64_t(-1), int64_t(UINT32_MAX)));
  add_option(command, "--stop", a->request.stop, "A text that ends the answer; may be repeated")
      ->allow_extra_args(false);
  add_flag(command, "--ignore-eos", a->request.ignore_eos, "Go on when the model wants to stop");
  add_flag(command, "--verbose", a->verbose, "Print times and rates to stderr");
  command.callback([=, &options] { run(options, *a, prompt->count() > 0 || words->count() > 0); });
}

}  // namespace ms
