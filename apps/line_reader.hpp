// line_reader.hpp: lines that somebody types, with editing and a history, or lines of a file.
#pragma once
#include <cwchar>
#include <string>

struct editline;  // libedit's
struct history;

namespace ms {

class LineReader {
 public:
  // Edits where stdin and stdout are a terminal; else reads stdin, and shows no prompt.
  LineReader();
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  ~LineReader();

  // By Enter; by Ctrl-C after catch_interrupts, when something was typed or nothing; by Ctrl-D.
  enum class Result { line, interrupted, interrupted_empty, end };
  // Bytes that are no UTF-8 come as U+FFFD.
  Result read(const char* prompt, std::string& line);
  // For the arrow keys to bring back.
  void remember(const std::string& line);
  bool editing() const { return editor_ != nullptr; }

 private:
  static const char* show_prompt(editline* editor);
  static int get_character(editline* editor, wchar_t* character);

  editline* editor_ = nullptr;
  history* history_ = nullptr;
  const char* prompt_ = "";
  std::mbstate_t half_ = {};  // of a character that was typed
};

}  // namespace ms
