// chat.cpp: mainspring chat: a conversation.
#include <signal.h>
#include <unistd.h>

#include <charconv>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <ranges>

#include "apps/generation.hpp"
#include "apps/line_reader.hpp"
#include "base/mapped_file.hpp"
#include "base/shallow_json.hpp"

namespace ms {

namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* notes =
    R"(What is typed is a message; /help lists the commands. A message of many lines stands between """
and """. Ctrl-C ends an answer or a line, Ctrl-D the conversation. Without a terminal each line of the
standard input is a message, and answers go to the standard output.
When the context is full, the oldest turns are dropped; the system message stays.

Examples:
  mainspring chat -m model.gguf
  mainspring chat -hf ggml-org/gemma-3-270m-it-GGUF --system "Answer in one line." --temp 0
  printf 'My name is Ada.\nWhat is my name?\n' | mainspring chat -m model.gguf

Exit codes: 0 done, 1 failed (without a terminal: or a command or message did), 2 wrong use, 130
interrupted by Ctrl-C (without a terminal).)";

// What /set sets: visit(name, the name that others have for it, value).
void visit_parameters(GenerationArguments& a, const auto& visit) {
  Sampling& s = a.request.sampling;
  visit("temp", "temperature", s.temperature);
  visit("top-k", "", s.top_k);
  visit("top-p", "", s.top_p);
  visit("min-p", "", s.min_p);
  visit("repeat-penalty", "", s.repeat_penalty);
  visit("repeat-last-n", "", s.repeat_last_n);
  visit("presence-penalty", "", s.presence_penalty);
  visit("frequency-penalty", "", s.frequency_penalty);
  visit("seed", "", a.seed);
  visit("predict", "num-predict", a.request.max_tokens);
  visit("stop", "", a.request.stop);
}

// Any of a float's decimal forms gives the same number; this is the shortest.
Json to_json(float value) { return Json::parse(fmt::format("{}", value)); }
Json to_json(const auto& value) { return value; }

std::string as_text(const Json& value) {
  return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

template <class T>
void assign(const char* name, T& to, const Json& from) {
  const auto refuse = [&](std::string_view wanted) {
    require(false, "{} is {}, want {}", name, as_text(from), wanted);
  };
  if constexpr (std::is_same_v<T, float>) {
    if (!from.is_number()) refuse("a number");
    to = from.get<float>();
  } else if constexpr (std::is_integral_v<T>) {
    if (!from.is_number_integer()) refuse("a whole number");
    const bool fits = from.is_number_unsigned() ? std::in_range<T>(from.template get<uint64_t>())
                                                : std::in_range<T>(from.template get<int64_t>());
    if (!fits) refuse("one of the range");
    to = from.get<T>();
  } else {
    if (!from.is_array() || std::ranges::any_of(from, [](auto& v) { return !v.is_string(); }))
      refuse("texts, like [\"a\", \"b\"]");
    to = from.get<T>();
  }
}

Json parameters_of(GenerationArguments& a) {
  Json result = Json::object();
  visit_parameters(
      a, [&](const char* name, const char*, const auto& value) { result[name] = to_json(value); });
  return result;
}

// Whether a name as it was typed is a parameter's.
bool is_name(std::string typed, std::string_view name, std::string_view other) {
  std::ranges::replace(typed, '_', '-');
  return typed == name || (!other.empty() && typed == other);
}

// Throws std::invalid_argument for a name or a value that is none; then nothing is set.
void set_parameters(GenerationArguments& a, const Json& parameters) {
  GenerationArguments changed = a;
  for (const auto& [key, value] : parameters.items()) {
    std::string names;
    bool found = false;
    visit_parameters(changed, [&](const char* name, const char* other, auto& to) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
      if (!is_name(key, name, other)) return;
      assign(name, to, value);
      found = true;
    });
    require(found, "there is no parameter {:?}; there are {}", key, names);
  }
  check_sampling(changed.request.sampling);
  require(changed.seed >= -1 && changed.seed <= UINT32_MAX, "seed is {}, want -1 to {}",
          changed.seed, UINT32_MAX);
  require(changed.request.max_tokens >= -1, "predict is {}, want -1 (no limit) or more",
          changed.request.max_tokens);
  a = changed;
}

// Throws std::invalid_argument unless it is a conversation that may go on: an optional system
// message, then messages of user and assistant in turn.
void check_messages(const Json& messages) {
  require(messages.is_array(), "\"messages\" is no array");
  std::string_view wanted = "user";
  for (size_t i = 0; i < messages.size(); ++i) {
    const Json& m = messages[i];
    require(m.is_object() && m.contains("role") && m.contains("content") && m["role"].is_string() &&
                m["content"].is_string(),
            "message {} has no \"role\" and \"content\" that are texts", i + 1);
    const std::string role = m["role"];
    if (i == 0 && role == "system") continue;
    require(role == wanted, "message {} is of {:?}, want {:?}", i + 1, role, wanted);
    wanted = wanted == "user" ? "assistant" : "user";
  }
  require(wanted == "user", "the last message has no answer");
}

std::string trimmed(std::string_view text) {
  constexpr std::string_view blanks = " \t";
  text.remove_prefix(std::min(text.find_first_not_of(blanks), text.size()));
  return std::string(text.substr(0, text.find_last_not_of(blanks) + 1));
}

// "1 message", "2 messages"
std::string count_of(size_t messages) {
  return fmt::format("{} message{}", messages, messages == 1 ? "" : "s");
}

fs::path path_of(const std::string& text) {
  require(!text.empty(), "which file?");
  const char* const home = std::getenv("HOME");
  return home && text.starts_with("~/") ? fs::path(home) / text.substr(2) : fs::path(text);
}

// Throws Error for a file that is none of /save's.
Json read_conversation(const fs::path& path) {
  const MappedFile bytes(path);
  const auto* const text = reinterpret_cast<const char*>(bytes.bytes().data());
  const Json file = parse_shallow<Json>({text, bytes.bytes().size()});
  try {
    require(file.is_object() && file.contains("messages") && file.contains("parameters") &&
                file["parameters"].is_object(),
            "it is no JSON object with \"messages\" and \"parameters\"");
    check_messages(file["messages"]);
    GenerationArguments any;
    set_parameters(any, file["parameters"]);
  } catch (const std::invalid_argument& error) {
    fail("{} is no conversation that /save wrote: {}", path.string(), error.what());
  }
  return file;
}

// Under a name that is free first, so that a full disk leaves the old file.
void write_conversation(fs::path path, const Json& file) {
  std::error_code unreachable;
  const bool exists = fs::exists(path, unreachable);
  if (unreachable) fail("cannot write {}: {}", path.string(), unreachable.message());
  if (exists) try {
      read_conversation(path);
    } catch (const Error& error) {
      fail("{}; it is left as it is", error.what());
    }
  std::string text;
  try {
    text = file.dump(2);
  } catch (const Json::type_error&) {
    fail("cannot write {}: a message or a parameter is not UTF-8", path.string());
  }
  while (fs::is_symlink(path)) path = path.parent_path() / fs::read_symlink(path);
  fs::path part;
  std::FILE* out = nullptr;
  for (int n = 1; !out; ++n) {
    part = path.parent_path() / fmt::format("mainspring.part{}", n);  // as short as any name may be
    out = std::fopen(part.c_str(), "wbx");                            // x: not what is there
    if (!out && errno != EEXIST) fail("cannot write {}: {}", path.string(), std::strerror(errno));
  }
  text += '\n';
  const bool written = std::fwrite(text.data(), 1, text.size(), out) == text.size();
  std::error_code none;
  const auto old = fs::status(path, none);
  if (fs::exists(old)) fs::permissions(part, old.permissions(), none);
  if (std::fclose(out) != 0 || !written || std::rename(part.c_str(), path.c_str()) != 0) {
    const int error = errno;
    std::remove(part.c_str());
    fail("cannot write {}: {}", path.string(), std::strerror(error));
  }
}

class Chat {
 public:
  Chat(Engine& engine, GenerationArguments& arguments) : engine_(engine), a_(arguments) {
    set_system(a_.system);
  }

  void converse();

 private:
  struct Command {
    const char *name, *argument, *help, *other;  // other: its name elsewhere
    void (Chat::*run)(const std::string& argument);
  };
  static const std::vector<Command>& commands();

  struct Input {
    std::string text;
    bool quoted = false;  // between """, so that it is no command
  };
  bool read(Input& input);
  void command(const std::string& line);
  void help(const std::string&);
  void system(const std::string& text);
  void set(const std::string& text);
  void show(const std::string&);
  void save(const std::string& file);
  void load(const std::string& file);
  void retry(const std::string&);
  void clear(const std::string&);
  void stats(const std::string&);
  void bye(const std::string&) { ended_ = true; }

  void set_system(const std::string& text);
  size_t first_turn() const {
    return !messages_.empty() && messages_[0]["role"] == "system" ? 1 : 0;
  }
  void ask(const std::string& message);
  std::vector<uint32_t> encode_what_fits(Json& messages) const;
  void answer(Json messages);
  void complain(std::string_view what);
  // What a command did, for who typed it: in a pipe there are answers alone.
  void tell(std::string_view what) {
    if (reader_.editing()) fmt::print("{}\n", what);
  }

  Engine& engine_;
  GenerationArguments& a_;
  LineReader reader_;
  Json messages_ = Json::array();
  std::string unanswered_;  // the last message, where no answer came: it is no part of messages_
  Generation last_;
  size_t answers_ = 0, tokens_ = 0;
  double seconds_ = 0;
  bool ended_ = false, failed_ = false;
};

const std::vector<Chat::Command>& Chat::commands() {
  static const std::vector<Command> commands = {
      {"/help", "", "These lines, as /? does", "/?", &Chat::help},
      {"/system", "TEXT", "Sets the system message; without TEXT there is none", "", &Chat::system},
      {"/set", "PARAM VALUE", "Sets a parameter; /show has their names", "", &Chat::set},
      {"/show", "", "The model, the parameters, the system message", "", &Chat::show},
      {"/save", "FILE", "Writes messages and parameters as JSON", "", &Chat::save},
      {"/load", "FILE", "Goes on with what /save wrote", "", &Chat::load},
      {"/retry", "", "Answers the last message again", "", &Chat::retry},
      {"/clear", "", "Forgets all messages but the system's", "", &Chat::clear},
      {"/stats", "", "Tokens and rates of the last answer and of all", "", &Chat::stats},
      {"/bye", "", "Leaves, as /exit and Ctrl-D do", "/exit", &Chat::bye},
  };
  return commands;
}

void Chat::complain(std::string_view what) {
  std::fflush(stdout);
  fmt::print(stderr, "mainspring: {}\n", what);
  failed_ = true;
}

// False: there is none any more.
bool Chat::read(Input& input) {
  constexpr std::string_view quotes = "\"\"\"";
  for (;;) {
    std::string& text = input.text;
    LineReader::Result result = reader_.read(">>> ", text);
    input.quoted = result == LineReader::Result::line && text.starts_with(quotes);
    if (input.quoted) {
      text.erase(0, quotes.size());
      while (!trimmed(text).ends_with(quotes)) {
        std::string line;
        result = reader_.read("... ", line);
        if (result != LineReader::Result::line) break;
        text += '\n' + line;
      }
    }
    switch (result) {
      case LineReader::Result::line:
        if (trimmed(text).empty()) continue;
        reader_.remember(input.quoted ? fmt::format("{}{}", quotes, text) : text);
        if (!input.quoted) return true;
        text.erase(text.rfind(quotes));
        if (text.starts_with('\n')) text.erase(0, 1);
        if (text.ends_with('\n')) text.pop_back();
        if (!trimmed(text).empty()) return true;
        continue;
      case LineReader::Result::interrupted_empty:
        fmt::print("Ctrl-D or /bye leaves.\n");
        continue;
      case LineReader::Result::interrupted:
        continue;
      case LineReader::Result::end:
        if (input.quoted) complain("the last message has no \"\"\" at its end, and was not sent");
        return false;
    }
  }
}

void Chat::converse() {
  // From now on, for a Ctrl-C may come right behind the one that ended an answer.
  if (reader_.editing()) catch_interrupts(false);
  if (reader_.editing())
    fmt::print("{}, a context of {} tokens. /help lists the commands.\n",
               engine_.model().config().name, engine_.model().context());
  Input input;
  while (!ended_ && read(input)) {
    try {
      if (input.text.starts_with('/') && !input.quoted)
        command(input.text);
      else
        ask(input.text);
    } catch (const std::exception& error) {  // whatever it is, the conversation stays
      complain(error.what());
    }
    if (std::fflush(stdout) != 0)
      fail("cannot write to the standard output: {}", std::strerror(errno));
  }
  if (failed_ && !reader_.editing()) throw ExitCode{1};
}

void Chat::command(const std::string& line) {
  const std::string name = line.substr(0, line.find_first_of(" \t\n"));
  std::string names;
  for (const Command& c : commands()) {
    names += fmt::format(" {}", c.name);
    if (name != c.name && name != c.other) continue;
    const std::string argument = trimmed(line.substr(name.size()));
    require(argument.empty() || *c.argument, "{} takes nothing behind it", name);
    return (this->*c.run)(argument);
  }
  complain(fmt::format(
      "there is no command {}; there are{}. With a blank before it, it is a message", name, names));
}

void Chat::help(const std::string&) {
  std::vector<std::vector<std::string>> rows;
  for (const Command& c : commands())
    rows.push_back({fmt::format("{} {}", c.name, c.argument), c.help});
  rows.push_back({"\"\"\"", "Begins and ends a message of many lines"});
  rows.push_back({"Ctrl-C", "Ends an answer, or a line that is being typed"});
  print_table(rows);
}

void Chat::set_system(const std::string& text) {
  if (first_turn()) messages_.erase(0);
  if (!text.empty())
    messages_.insert(messages_.begin(), Json{{"role", "system"}, {"content", text}});
}

void Chat::system(const std::string& text) {
  set_system(text);
  tell(text.empty() ? "There is no system message." : "The system message is set.");
}

void Chat::set(const std::string& text) {
  std::string rest = text;
  if (rest.starts_with("parameter ")) rest = trimmed(rest.substr(10));  // as some have learnt it
  const size_t blank = std::min(rest.find_first_of(" \t"), rest.size());
  const std::string name = rest.substr(0, blank), value = trimmed(rest.substr(blank));
  require(!name.empty() && !value.empty(), "want /set PARAM VALUE; /show has their names");
  Json json = parse_shallow<Json>(value);
  if (name == "stop" && !json.is_array())
    json = Json::array({json.is_string() ? json.get<std::string>() : value});
  if (json.is_discarded()) json = value;
  set_parameters(a_, {{name, json}});
  visit_parameters(a_, [&](const char* known, const char* other, const auto& now) {
    if (is_name(name, known, other)) tell(fmt::format("{} is {}.", known, as_text(to_json(now))));
  });
}

void Chat::show(const std::string&) {
  std::vector<std::vector<std::string>> rows = {
      {"model", engine_.model().config().name},
      {"context", fmt::format("{} tokens, {} of them used", engine_.model().context(),
                              messages_.empty() ? 0 : engine_.encode_chat(messages_).size())}};
  const Json parameters = parameters_of(a_);
  for (const auto& [name, value] : parameters.items()) rows.push_back({name, as_text(value)});
  if (first_turn()) rows.push_back({"system", messages_[0]["content"]});
  print_table(rows);
}

void Chat::save(const std::string& file) {
  const fs::path path = path_of(file);
  write_conversation(path, {{"messages", messages_}, {"parameters", parameters_of(a_)}});
  fmt::print("Saved {} to {}.\n", count_of(messages_.size()), path.string());
}

void Chat::load(const std::string& file) {
  const Json read = read_conversation(path_of(file));
  set_parameters(a_, read["parameters"]);
  messages_ = read["messages"];
  unanswered_.clear();
  fmt::print("Loaded {}.\n", count_of(messages_.size()));
}

void Chat::retry(const std::string&) {
  if (!unanswered_.empty()) return ask(std::string(unanswered_));
  require(messages_.size() > first_turn(), "there is no message to answer again");
  Json messages = messages_;
  messages.erase(messages.size() - 1);
  answer(std::move(messages));
}

void Chat::clear(const std::string&) {
  unanswered_.clear();
  const size_t before = messages_.size();
  messages_.erase(messages_.begin() + std::ptrdiff_t(first_turn()), messages_.end());
  tell(fmt::format("Forgot {}{}.", count_of(before - messages_.size()),
                   first_turn() ? "; the system message stays" : ""));
}

void Chat::stats(const std::string&) {
  require(answers_ > 0, "there was no answer yet");
  fmt::print("{}all:        {} answers, {} tokens, {:.1f} tokens/s\n", rates(last_), answers_,
             tokens_, seconds_ > 0 ? double(tokens_) / seconds_ : 0.0);
}

void Chat::ask(const std::string& message) {
  unanswered_ = message;
  Json messages = messages_;
  messages.push_back({{"role", "user"}, {"content", message}});
  answer(std::move(messages));
}

// The conversation's tokens. Where they leave too little room for an answer, the oldest turns are
// dropped, down to half of the context: so that the next ones find what was evaluated as it was.
std::vector<uint32_t> Chat::encode_what_fits(Json& messages) const {
  const size_t context = engine_.model().context();
  const int64_t most = a_.request.max_tokens;
  const size_t room = most < 0 ? context / 4 : std::min(context / 4, size_t(most));
  std::vector<uint32_t> tokens = engine_.encode_chat(messages);
  const size_t first = first_turn(), turns = (messages.size() - first - 1) / 2;
  size_t dropped = 0;
  if (turns > 0 && tokens.size() + room > context) {
    const auto without = [&](size_t count) {
      Json rest = messages;
      rest.erase(rest.begin() + first, rest.begin() + first + 2 * count);
      return rest;
    };
    // As few turns as leave half the context free, but all before the last if need be.
    const auto counts = std::views::iota(size_t(1), turns);
    dropped = *std::ranges::partition_point(counts, [&](size_t count) {
      return engine_.encode_chat(without(count)).size() > context / 2;
    });
    messages = without(dropped);
    tokens = engine_.encode_chat(messages);
  }
  if (tokens.size() >= context)
    fail("the message{} has {} tokens, the context holds {}: shorten it, or raise the context (-c)",
         first_turn() ? ", with the system's," : "", tokens.size(), context);
  if (dropped)
    fmt::print(stderr, "mainspring: the context of {} tokens is full: the oldest {} dropped\n",
               context, dropped == 1 ? "turn was" : fmt::format("{} turns were", dropped));
  return tokens;
}

// Answers the last message; the conversation is as it was unless an answer comes.
void Chat::answer(Json messages) {
  const std::vector<uint32_t> tokens = encode_what_fits(messages);
  Request request = a_.request;
  request.sampling.seed = a_.draw_seed();
  if (!reader_.editing()) catch_interrupts(true);
  last_ = {};
  last_.finish = Finish::cancelled;
  if (!interrupted) {  // since the line was read
    Output output;
    last_ = engine_.generate(
        tokens, request, [&](std::string_view text) { return output.write(text); },
        [] { return !interrupted; });
    output.check();
  }
  if (!reader_.editing()) signal(SIGINT, SIG_DFL);
  if (interrupted && !reader_.editing()) throw ExitCode{128 + SIGINT};
  ++answers_;
  tokens_ += last_.tokens.size();
  seconds_ += last_.generate_seconds;
  if (last_.finish == Finish::cancelled && last_.text.empty()) {
    fmt::print(stderr, "mainspring: no answer came, so the conversation is as it was\n");
  } else {
    messages.push_back({{"role", "assistant"}, {"content", last_.text}});
    messages_ = std::move(messages);
    unanswered_.clear();
  }
  if (last_.finish == Finish::context_full)
    fmt::print(stderr, "mainspring: the context of {} tokens is full, so the answer ends here\n",
               engine_.model().context());
  if (a_.verbose) fmt::print(stderr, "{}", rates(last_));
}

void chat(const GlobalOptions& options, GenerationArguments& a) {
  Engine engine(engine_options(options, a.model, a.context));
  engine.model();  // an encoder has none, and says what it is for
  if (!engine.chat_template())
    fail("the model has no chat template, so it knows no turns; mainspring run continues a text");
  Chat(engine, a).converse();
}

}  // namespace

void add_chat(CLI::App& app, const GlobalOptions& options) {
  CLI::App& command = *app.add_subcommand("chat", "A conversation with a model.");
  const auto a = std::make_shared<GenerationArguments>();
  command.footer(notes);
  add_generation_options(command, *a);
  command.callback([=, &options] {
    check_sampling(a->request.sampling);
    chat(options, *a);
  });
}

}  // namespace ms
