// tools.hpp: calls of functions: how a model's template writes them, what holds a reply to them,
// and a reply taken apart into what it says, thinks and calls.
#pragma once
#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "engine/engine.hpp"

namespace ms {

using Json = ChatTemplate::Json;

struct Tool {
  std::string name;
  Json parameters;  // a schema
};

// How calls stand in a reply: start open CALL (between CALL)* close, where a CALL is
// {"name": …, arguments: {…}}.
struct ToolForm {
  std::string_view start;  // "": a reply that is a call begins with it
  std::string_view open, arguments;
  std::string_view between;  // "": there is one call at most
  std::string_view close;

  // The one that a template renders calls and tools in; null: none of ours, and the conversation
  // has to be rewritten for it (explain_tools).
  static const ToolForm* of(const ChatTemplate& chat_template);
  // Where no template says otherwise.
  static const ToolForm& usual();
};

// A conversation for a template that does not know tools: they are explained in the system message,
// or in the first of the user where the template takes none, and calls and results are text.
// `messages`: one at least; `tools`: null or a list.
Json explain_tools(const Json& messages, const Json& tools, const ChatTemplate& chat_template);

// What a reply is held to: calls of these tools alone, from its beginning on, or, where it is free
// to call none, from the form's start on. `in_prompt`: the prompt ends with the start.
Constraint calls_constraint(const ToolForm& form, const std::vector<Tool>& tools, bool several,
                            bool free, bool in_prompt);

struct ReplyPart {
  enum class What { content, reasoning, call, arguments } what;
  std::string text;  // of a call its function's name
};

// Takes a reply apart as it comes. What looks like a call and is none stays content; a call that
// breaks off keeps the arguments it has.
class ReplyParser {
 public:
  enum class Thought { never, may_begin, begun };

  // `form`: null where there are no tools; `names`: of the functions.
  ReplyParser(const ToolForm* form, std::set<std::string> names, Thought thought);

  std::vector<ReplyPart> push(std::string_view text);
  std::vector<ReplyPart> finish();
  // Whether functions are called, the last of them with all of its arguments.
  bool has_whole_calls() const {
    const bool in_arguments =
        state_ == State::call && scan_.arguments > 0 && scan_.arguments_end == 0;
    return has_calls() && !in_arguments;
  }

 private:
  enum class State { begin, thought, text, open, call, close };

  bool has_calls() const { return calls_ > 0; }
  bool step(bool last);
  bool begin(bool last);
  bool think(bool last);
  bool say(bool last);
  bool open();
  bool call();
  bool add_whole_call(std::string_view text);
  bool close();
  void not_a_call();
  void take(size_t bytes);
  void add(ReplyPart::What what, std::string_view text);

  const ToolForm* form_;
  std::set<std::string> names_;
  bool may_think_;
  State state_;
  std::string held_;   // what has come and is not dealt with
  std::string taken_;  // what is content again if no call comes of it
  bool thinking_ = false, behind_thought_ = false;
  size_t calls_ = 0;
  // Of the call at the beginning of held_:
  struct Scan {
    size_t at = 0, depth = 0;
    bool in_string = false, escaped = false;
    size_t arguments = 0, arguments_end = 0;  // 0: not known yet
    size_t sent = 0;                          // of the arguments
  } scan_;
  std::vector<ReplyPart> parts_;
};

}  // namespace ms
