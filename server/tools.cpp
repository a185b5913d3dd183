// tools.cpp: one table of forms, which the grammar, the prompt and the parser are made from.
#include "server/tools.hpp"

#include <algorithm>
#include <utility>

#include "base/error.hpp"
#include "server/api.hpp"

namespace ms {

namespace {

constexpr std::string_view white = " \n\r\t";
constexpr std::string_view think_start = "<think>", think_end = "</think>";

constexpr ToolForm forms[] = {
    // Hermes, Qwen2.5, Qwen3
    {"<tool_call>", "\n", "arguments", "\n</tool_call>\n<tool_call>\n", "\n</tool_call>"},
    // Mistral
    {"[TOOL_CALLS]", "[", "arguments", ", ", "]"},
    // Llama 3.1 to 3.3
    {"", "", "parameters", "", ""},
};

std::string without_white(std::string_view text) {
  std::string result(text);
  std::erase_if(result, [](char c) { return white.find(c) != std::string_view::npos; });
  return result;
}

std::string_view trimmed_end(std::string_view text) {
  return text.substr(0, text.find_last_not_of(white) + 1);
}

// How many bytes at the end of a text may begin a marker, or are white space in front of one.
size_t may_begin(std::string_view text, std::string_view marker) {
  size_t keep = std::min(text.size(), marker.empty() ? 0 : marker.size() - 1);
  while (keep > 0 && !marker.starts_with(text.substr(text.size() - keep))) --keep;
  return text.size() - trimmed_end(text.substr(0, text.size() - keep)).size();
}

// A string of the Lark grammar.
std::string lark_string(std::string_view text) { return to_text(Json(text)); }

// {"name": "NAME", "arguments": { at the beginning of a text: where the last brace is, and the
// name; 0 where it does not begin so, or not yet.
size_t head_of_call(std::string_view text, std::string_view arguments, std::string& name) {
  size_t at = 0;
  const auto skip = [&](std::string_view what) {
    at = std::min(text.find_first_not_of(white, at), text.size());
    if (!text.substr(at).starts_with(what)) return false;
    at += what.size();
    return true;
  };
  if (!skip("{") || !skip("\"name\"") || !skip(":") || !skip("\"")) return 0;
  const size_t end = text.find_first_of("\"\\", at);
  if (end == std::string_view::npos || text[end] != '"') return 0;
  name = text.substr(at, end - at);
  at = end + 1;
  if (!skip(",") || !skip(fmt::format("\"{}\"", arguments)) || !skip(":") || !skip("{")) return 0;
  return at - 1;
}

// Whether a system message shows in a template's text: Gemma 2's refuses any.
bool takes_system(const ChatTemplate& chat_template) {
  constexpr const char* about = "What the system says";
  try {
    return chat_template
               .render({{{"role", "system"}, {"content", about}},
                        {{"role", "user"}, {"content", "Question"}}},
                       {})
               .find(about) != std::string::npos;
  } catch (const Error&) {
    return false;
  }
}

std::string about_tools(const Json& tools) {
  std::string text =
      "You may call these functions, which are described as JSON with schemas of their "
      "arguments:\n<tools>\n";
  for (const Json& tool : tools) text += to_text(tool) + "\n";
  return text +
         "</tools>\nTo call one, write an object with its name and its arguments between "
         "<tool_call> and </tool_call>:\n<tool_call>\n{\"name\": NAME, \"arguments\": "
         "ARGUMENTS}\n</tool_call>\nWhat it returns comes between <tool_response> and "
         "</tool_response>.";
}

}  // namespace

const ToolForm& ToolForm::usual() { return forms[0]; }

const ToolForm* ToolForm::of(const ChatTemplate& chat_template) {
  constexpr const char* about = "What the function is for";
  const Json tools = Json::array({{{"type", "function"},
                                   {"function",
                                    {{"name", "probe"},
                                     {"description", about},
                                     {"parameters",
                                      {{"type", "object"},
                                       {"properties", {{"key", {{"type", "string"}}}}},
                                       {"required", {"key"}}}}}}}});
  const Json call = {{"id", "abcdefghi"},
                     {"type", "function"},
                     {"function", {{"name", "probe"}, {"arguments", {{"key", "value"}}}}}};
  const Json messages = {{{"role", "user"}, {"content", "Question"}},
                         {{"role", "assistant"}, {"content", ""}, {"tool_calls", {call}}},
                         {{"role", "tool"}, {"tool_call_id", "abcdefghi"}, {"content", "Result"}}};
  std::string text;
  try {
    text = chat_template.render(messages, {.tools = tools});
  } catch (const Error&) {  // it knows no such messages
    return nullptr;
  }
  if (text.find(about) == std::string::npos || text.find("Result") == std::string::npos)
    return nullptr;
  for (const ToolForm& form : forms)
    if (without_white(text).find(
            without_white(fmt::format("{}{}{{\"name\":\"probe\",\"{}\":{{\"key\":\"value\"}}",
                                      form.start, form.open, form.arguments))) != std::string::npos)
      return &form;
  return nullptr;
}

Json explain_tools(const Json& messages, const Json& tools, const ChatTemplate& chat_template) {
  Json result = Json::array();
  std::string about = tools.is_null() ? "" : about_tools(tools);
  const bool in_system = !about.empty() && takes_system(chat_template);
  if (in_system && messages.front()["role"] != "system")
    result.push_back({{"role", "system"}, {"content", std::exchange(about, "")}});
  for (const Json& message : messages) {
    const std::string role = message["role"];
    std::string content = message["content"];
    if (role == "system" && in_system && !about.empty())
      content += "\n\n" + std::exchange(about, "");
    if (const auto calls = message.find("tool_calls"); calls != message.end())
      for (const Json& call : *calls) {
        const Json& function = call["function"];
        if (!content.empty()) content += '\n';
        content += fmt::format(
            "<tool_call>\n{}\n</tool_call>",
            to_text({{"name", function["name"]}, {"arguments", function["arguments"]}}));
      }
    if (role == "tool") content = "<tool_response>\n" + content + "\n</tool_response>";
    if ((role == "user" || role == "tool") && !about.empty())
      content = std::exchange(about, "") + "\n\n" + content;
    // Templates may want turns to alternate.
    if (role == "tool" && !result.empty() && result.back().contains("results"))
      result.back()["content"] = result.back()["content"].get<std::string>() + "\n" + content;
    else if (role == "tool")
      result.push_back({{"role", "user"}, {"content", content}, {"results", true}});
    else
      result.push_back({{"role", role}, {"content", content}});
  }
  for (Json& message : result) message.erase("results");
  if (!about.empty())  // there is no message of a user's
    result.insert(result.begin(), Json{{"role", "user"}, {"content", about}});
  return result;
}

Constraint calls_constraint(const ToolForm& form, const std::vector<Tool>& tools, bool several,
                            bool free, bool in_prompt) {
  const bool more = several && !form.between.empty();
  std::string text = "start:";
  const auto literal = [&](std::string_view what) {
    if (!what.empty()) text += " " + lark_string(what);
  };
  if (!in_prompt) literal(form.start);
  if (form.open == "\n")
    text += " \"\\n\"?";
  else if (!form.open.empty())
    text += " \" \"? " + lark_string(form.open);
  text += " call";
  if (more) text += " (" + lark_string(form.between) + " call)*";
  literal(form.close);
  text += "\ncall:";
  Constraint constraint{.kind = Constraint::Kind::lark};
  for (size_t i = 0; i < tools.size(); ++i) {
    text += fmt::format(
        "{} {} schema_{} \"}}\"", i ? " |" : "",
        lark_string(fmt::format("{{\"name\": \"{}\", \"{}\": ", tools[i].name, form.arguments)), i);
    constraint.schemas.push_back(to_text(tools[i].parameters));
  }
  constraint.text = std::move(text);
  if (!free) return constraint;
  constraint.from = form.start.empty() ? "{" : form.start;
  constraint.from_first = form.start.empty();
  return constraint;
}

ReplyParser::ReplyParser(const ToolForm* form, std::set<std::string> names, Thought thought)
    : form_(form),
      names_(std::move(names)),
      may_think_(thought == Thought::may_begin),
      state_(thought == Thought::begun ? State::thought : State::begin) {}

std::vector<ReplyPart> ReplyParser::push(std::string_view text) {
  held_ += text;
  while (step(false)) {
  }
  return std::exchange(parts_, {});
}

std::vector<ReplyPart> ReplyParser::finish() {
  for (;;) {
    while (step(true)) {
    }
    const bool begun = state_ == State::open || (state_ == State::call && scan_.arguments == 0);
    if (!begun) break;
    if (has_calls() && !trimmed_end(taken_).empty()) break;  // another call, broken off
    not_a_call();
  }
  return std::exchange(parts_, {});
}

// Whether there may be more to do with what is held. `last`: no more text comes.
bool ReplyParser::step(bool last) {
  switch (state_) {
    case State::begin:
      return begin(last);
    case State::thought:
      return think(last);
    case State::text:
      return say(last);
    case State::open:
      return open();
    case State::call:
      return call();
    case State::close:
      return close();
  }
  return false;
}

bool ReplyParser::begin(bool last) {
  // Models leave the start away, too.
  const bool calls_at_once = form_ != nullptr;
  size_t first = std::min(held_.find_first_not_of(white), held_.size());
  if (behind_thought_) {  // white space there is the template's
    held_.erase(0, std::exchange(first, 0));
    if (held_.empty()) return false;
  }
  const std::string_view text = std::string_view(held_).substr(first);
  const auto can_be = [&](std::string_view what) { return !last && what.starts_with(text); };
  if (may_think_ && text.starts_with(think_start)) {
    held_.erase(0, first + think_start.size());
    may_think_ = false;
    state_ = State::thought;
    return true;
  }
  if ((may_think_ && can_be(think_start)) || (calls_at_once && can_be("{"))) return false;
  if (calls_at_once && text.starts_with('{')) {
    take(first);
    state_ = State::call;
    return true;
  }
  state_ = State::text;
  return true;
}

bool ReplyParser::think(bool last) {
  const size_t end = held_.find(think_end);
  const bool over = end != std::string::npos;
  const size_t size = over ? end : last ? held_.size() : held_.size() - may_begin(held_, think_end);
  std::string_view text = std::string_view(held_).substr(0, size);
  if (over || last) text = trimmed_end(text);
  if (!thinking_)  // white space in front is no thought
    text.remove_prefix(std::min(text.find_first_not_of(white), text.size()));
  thinking_ = thinking_ || !text.empty();
  add(ReplyPart::What::reasoning, text);
  held_.erase(0, over ? end + think_end.size() : size);
  if (!over) return false;
  behind_thought_ = true;
  state_ = State::begin;
  return true;
}

bool ReplyParser::say(bool last) {
  const std::string_view start = form_ ? form_->start : std::string_view();
  const size_t at = start.empty() ? std::string::npos : held_.find(start);
  if (at != std::string::npos) {
    const std::string content(trimmed_end(std::string_view(held_).substr(0, at)));
    add(ReplyPart::What::content, content);
    held_.erase(0, content.size());
    take(at - content.size() + start.size());
    state_ = State::open;
    return true;
  }
  // Behind a call, white space and the beginning of another say nothing.
  const size_t keep = start.empty() || (last && !has_calls()) ? 0 : may_begin(held_, start);
  const size_t size = held_.size() - keep;
  add(ReplyPart::What::content, std::string_view(held_).substr(0, size));
  held_.erase(0, size);
  return false;
}

bool ReplyParser::open() {
  take(std::min(held_.find_first_not_of(white), held_.size()));
  if (held_.empty()) return false;
  const std::string open = without_white(form_->open);
  if (!held_.starts_with(open)) {
    not_a_call();
    return true;
  }
  take(open.size());
  state_ = State::call;
  return true;
}

bool ReplyParser::call() {
  if (scan_.at == 0) take(std::min(held_.find_first_not_of(white), held_.size()));
  if (held_.empty()) return false;
  if (held_.front() != '{') {
    not_a_call();
    return true;
  }
  bool over = false;
  for (; scan_.at < held_.size() && !over; ++scan_.at) {
    const char c = held_[scan_.at];
    if (scan_.in_string) {
      scan_.in_string = scan_.escaped || c != '"';
      scan_.escaped = !scan_.escaped && c == '\\';
    } else if (c == '"') {
      scan_.in_string = true;
    } else if (c == '{' || c == '[') {
      ++scan_.depth;
    } else if (c == '}' || c == ']') {
      over = --scan_.depth == 0;
      // The first member with members of its own: the arguments, in a call whose head is known.
      if (scan_.depth == 1 && scan_.arguments_end == 0) scan_.arguments_end = scan_.at + 1;
    }
  }
  if (scan_.arguments == 0) {
    std::string name;
    scan_.arguments = head_of_call(held_, form_->arguments, name);
    if (!names_.contains(name)) scan_.arguments = 0;
    scan_.sent = scan_.arguments;
    if (scan_.arguments > 0) add(ReplyPart::What::call, name);
  }
  if (scan_.arguments > 0) {
    const size_t end = scan_.arguments_end > 0 ? scan_.arguments_end : scan_.at;
    add(ReplyPart::What::arguments, std::string_view(held_).substr(scan_.sent, end - scan_.sent));
    scan_.sent = end;
  }
  if (!over) return false;
  if (scan_.arguments == 0 && !add_whole_call(std::string_view(held_).substr(0, scan_.at))) {
    not_a_call();
    return true;
  }
  held_.erase(0, scan_.at);
  taken_.clear();
  scan_ = {};
  state_ = State::close;
  return true;
}

// One with its members in another order, or with more of them.
bool ReplyParser::add_whole_call(std::string_view text) {
  try {
    const Json call = parse_body(text);
    const std::string name = call.value("name", "");
    Json arguments = call.value(std::string(form_->arguments), Json());
    if (arguments.is_string()) arguments = parse_body(arguments.get_ref<const std::string&>());
    if (!names_.contains(name) || !arguments.is_object()) return false;
    add(ReplyPart::What::call, name);
    add(ReplyPart::What::arguments, to_text(arguments));
    return true;
  } catch (const std::exception&) {  // no JSON, or a name that is no string
    return false;
  }
}

bool ReplyParser::close() {
  const size_t first = std::min(held_.find_first_not_of(white), held_.size());
  const std::string_view text = std::string_view(held_).substr(first);
  const std::string close = without_white(form_->close);
  if (text.starts_with(',') && form_->between.starts_with(',')) {
    take(first + 1);
    state_ = State::call;
    return true;
  }
  if (close.size() > text.size() && close.starts_with(text)) return false;
  if (!close.empty() && text.starts_with(close)) held_.erase(0, first + close.size());
  // Another may follow, and it without its start.
  may_think_ = behind_thought_ = false;
  state_ = form_->between.empty() ? State::text : State::begin;
  return true;
}

// What was taken for the beginning of a call is content.
void ReplyParser::not_a_call() {
  add(ReplyPart::What::content, taken_);
  taken_.clear();
  scan_ = {};
  state_ = State::text;
}

void ReplyParser::take(size_t bytes) {
  taken_ += held_.substr(0, bytes);
  held_.erase(0, bytes);
}

void ReplyParser::add(ReplyPart::What what, std::string_view text) {
  if (text.empty()) return;
  calls_ += what == ReplyPart::What::call;
  parts_.push_back({what, std::string(text)});
}

}  // namespace ms
