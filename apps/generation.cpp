// generation.cpp: options as llama.cpp spells them.
#include "apps/generation.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <random>

namespace ms {

volatile std::sig_atomic_t interrupted = 0;

namespace {

std::string_view to_string(Finish finish) {
  switch (finish) {
    case Finish::stop_token:
      return "the model stopped, or its form ended";
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

}  // namespace

uint32_t GenerationArguments::draw_seed() const {
  return seed < 0 ? std::random_device()() : uint32_t(seed);
}

void add_generation_options(CLI::App& command, GenerationArguments& a) {
  Sampling& s = a.request.sampling;
  constexpr float above_0 = std::numeric_limits<float>::min();
  add_model_options(command, a.model);
  add_context_option(command, a.context);
  add_number(command, "-n,--predict", a.request.max_tokens,
             "Most tokens to generate; -1: until the model stops or the context is full", -1);
  add_option(command, "--system", a.system, "A system turn before the prompt");
  add_number(command, "--temp", s.temperature, "Temperature; 0: always the likeliest token", 0);
  add_number(command, "--top-k", s.top_k, "Draw from the k likeliest tokens; 0: from all");
  add_number(command, "--top-p", s.top_p, "Draw from the likeliest that make up this share; 1: off",
             above_0, 1);
  add_number(command, "--min-p", s.min_p,
             "Least share of the likeliest token's probability; 0: off", 0, 1);
  add_number(command, "--repeat-penalty", s.repeat_penalty, "Weakens repeated tokens; 1: off",
             above_0);
  add_number(command, "--repeat-last-n", s.repeat_last_n,
             "Tokens that penalties look back; 0: off");
  add_number(command, "--presence-penalty", s.presence_penalty, "Taken off logits of tokens seen");
  add_number(command, "--frequency-penalty", s.frequency_penalty, "The same, times how often");
  add_number(command, "-s,--seed", a.seed, "Seed of the draws; -1: a random one", -1, UINT32_MAX);
  add_option(command, "--stop", a.request.stop, "A text that ends the answer; may be repeated")
      ->allow_extra_args(false);
  add_flag(command, "--ignore-eos", a.request.ignore_eos, "Go on when the model wants to stop");
  add_flag(command, "--verbose", a.verbose, "Print times and rates to stderr");
}

void catch_interrupts(bool once) {
  struct sigaction action = {};
  action.sa_handler = [](int) { interrupted = 1; };
  action.sa_flags = SA_RESTART | (once ? SA_RESETHAND : 0);
  sigaction(SIGINT, &action, nullptr);
}

Output::~Output() {
  if (!error_ && !at_line_start_) std::putchar('\n');
  std::fflush(stdout);
}

bool Output::write(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    error_ = errno;
  at_line_start_ = text.ends_with('\n');
  return !error_;
}

void Output::check() const {
  if (error_ == EPIPE) throw ExitCode{128 + SIGPIPE};  // the reader has gone, as `head` does
  if (error_) fail("cannot write to the standard output: {}", std::strerror(error_));
}

std::string rates(const Generation& g) {
  const auto rate = [](size_t tokens, double seconds) {
    return fmt::format("{} tokens, {:.2f} s, {:.1f} tokens/s", tokens, seconds,
                       seconds > 0 ? double(tokens) / seconds : 0.0);
  };
  // The prompt's last token is the first step's.
  const size_t evaluated = g.prompt_tokens - std::min(g.prompt_tokens, 1 + g.cached_tokens);
  return fmt::format("kernels:    {:.2f} s\nprompt:     {}{}\ngeneration: {}\nend:        {}\n",
                     g.record_seconds, rate(evaluated, g.prompt_seconds),
                     g.cached_tokens ? fmt::format(", {} cached", g.cached_tokens) : "",
                     rate(g.tokens.size(), g.generate_seconds), to_string(g.finish));
}

}  // namespace ms
