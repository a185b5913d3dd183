// run.cpp: mainspring run: text in, text out.
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <iterator>

#include "apps/generation.hpp"

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
  mainspring run -m model.gguf -j @person.json "Invent a person. Answer in JSON."

-j, --regex and --lark hold the text to a form: tokens that would leave it are never drawn, and where
it can only end, the text ends. -j takes of JSON Schema what the library llguidance supports, and
refuses the rest; {"type": "object"} is any object. Properties come in the schema's order; of oneOf
more than one may hold, as of anyOf; a format that is not known says nothing. An object with
"properties" has no others unless "additionalProperties" says so, but in a schema that puts objects
together of parts (allOf, $ref beside properties). Between JSON's tokens it has a blank, a line feed
with its indentation, or nothing. --regex is in the syntax of Rust's regex, where \d, \w and \s are
Unicode's classes ([0-9] is the ASCII digits); --lark in llguidance's dialect of Lark, from the rule
"start".

Exit codes: 0 done (the model stopped, -n was reached, the context was full), 1 failed, 2 wrong use,
130 interrupted by Ctrl-C.)";

struct Arguments : GenerationArguments {
  std::vector<std::string> words;
  std::string prompt;
  bool raw = false;
  std::optional<std::string> json_schema, regex, lark;  // forms that the text is held to
};

std::string read_prompt() {
  require(!isatty(STDIN_FILENO),
          "there is no prompt: give one as an argument, with -p, or on stdin");
  std::string text(std::istreambuf_iterator<char>(std::cin), {});
  // What was to write one failed, more likely than not; -p "" begins a text.
  if (text.empty())
    fail("there is no prompt, and stdin is empty: give one as an argument, with -p, or on stdin");
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

// An argument, or the contents of the file that it names as @FILE.
std::string text_or_file(const std::string& argument) {
  return argument.starts_with('@') ? read_text(argument.substr(1)) : argument;
}

std::optional<Constraint> constraint_of(const Arguments& a) {
  require(a.json_schema.has_value() + a.regex.has_value() + a.lark.has_value() <= 1,
          "-j, --regex, --lark: give one of them");
  using enum Constraint::Kind;
  if (a.json_schema) return Constraint{json_schema, text_or_file(*a.json_schema)};
  if (a.regex) return Constraint{regex, *a.regex};
  if (a.lark) return Constraint{lark, text_or_file(*a.lark)};
  return {};
}

void run(const GlobalOptions& options, Arguments& a, bool prompt_given) {
  const std::string prompt = !a.words.empty() ? fmt::format("{}", fmt::join(a.words, " "))
                             : prompt_given   ? a.prompt
                                              : read_prompt();
  a.request.constraint = constraint_of(a);
  a.request.sampling.seed = a.draw_seed();

  const auto start = std::chrono::steady_clock::now();
  Engine engine(engine_options(options, a.model, a.context));
  const std::vector<uint32_t> tokens = encode(engine, a, prompt);
  const double load_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();

  catch_interrupts(true);
  Generation generation;
  {
    Output output;
    generation = engine.generate(
        tokens, a.request, [&](std::string_view text) { return output.write(text); },
        [] { return !interrupted; });
    output.check();
  }
  if (generation.finish == Finish::context_full)
    fmt::print(stderr, "mainspring: context full: {} tokens, {} of them the prompt; raise -c\n",
               engine.model().context(), generation.prompt_tokens);
  if (a.verbose)
    fmt::print(stderr, "load:       {:.2f} s\n{}seed:       {}\n", load_seconds, rates(generation),
               a.request.sampling.seed);
  if (interrupted) throw ExitCode{128 + SIGINT};
}

}  // namespace

void add_run(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command = *app.add_subcommand("run", "Answers a prompt, or continues a text.");
  const auto a = std::make_shared<Arguments>();
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
  add_generation_options(command, *a);
  add_flag(command, "--raw", a->raw, "Continue the text: no chat template");
  add_option(command, "-j,--json-schema", a->json_schema,
             "Hold the text to a JSON schema: its text, or @FILE")
      ->type_name("SCHEMA");
  add_option(command, "--regex", a->regex, "Hold the text to a regular expression")
      ->type_name("REGEX");
  add_option(command, "--lark", a->lark, "Hold the text to a Lark grammar: its text, or @FILE")
      ->type_name("GRAMMAR");
  command.callback([=, &options] { run(options, *a, prompt->count() > 0 || words->count() > 0); });
}

}  // namespace ms
