// line_reader.cpp: libedit on a terminal, getline elsewhere.
#include "apps/line_reader.hpp"

#include <histedit.h>
#include <langinfo.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "apps/generation.hpp"
#include "base/error.hpp"
#include "text/utf8.hpp"

namespace ms {

LineReader::LineReader() {
  if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) return;
  // What is typed is UTF-8 to the models, so it must be to libedit.
  std::setlocale(LC_CTYPE, "");
  if (std::strcmp(nl_langinfo(CODESET), "UTF-8") != 0) std::setlocale(LC_CTYPE, "C.UTF-8");
  editor_ = el_init("mainspring", stdin, stdout, stderr);
  history_ = history_init();
  if (!editor_ || !history_) fail("libedit does not start on this terminal");
  HistEvent event;
  history(history_, &event, H_SETSIZE, 1000);
  history(history_, &event, H_SETUNIQUE, 1);
  el_set(editor_, EL_CLIENTDATA, this);
  el_set(editor_, EL_PROMPT, show_prompt);
  el_set(editor_, EL_EDITOR, "emacs");
  el_set(editor_, EL_BIND, "^I", "ed-insert", nullptr);  // a tab, of pasted text for one
  el_set(editor_, EL_HIST, history, history_);
  el_set(editor_, EL_SIGNAL, 1);  // a signal finds the terminal as it was
  el_set(editor_, EL_GETCFN, get_character);
  el_source(editor_, nullptr);  // ~/.editrc
}

LineReader::~LineReader() {
  if (editor_) el_end(editor_);
  if (history_) history_end(history_);
}

const char* LineReader::show_prompt(editline* editor) {
  LineReader* self = nullptr;
  el_get(editor, EL_CLIENTDATA, &self);
  return self->prompt_;
}

// libedit's own would lose a Ctrl-C that comes just before it waits, or to another thread.
int LineReader::get_character(editline* editor, wchar_t* character) {
  LineReader* self = nullptr;
  el_get(editor, EL_CLIENTDATA, &self);
  for (;;) {
    pollfd in = {.fd = STDIN_FILENO, .events = POLLIN, .revents = 0};
    const int ready = poll(&in, 1, 100);  // milliseconds
    if (interrupted) return -1;
    if (ready == 0) continue;
    char byte = 0;
    const ssize_t count = ready < 0 ? -1 : ::read(STDIN_FILENO, &byte, 1);
    if (count < 0 && errno == EINTR) {  // stopped, and going on; or of another size
      el_set(editor, EL_PREP_TERM, 1);
      el_set(editor, EL_REFRESH);
      continue;
    }
    if (count <= 0) return int(count);
    const size_t length = std::mbrtowc(character, &byte, 1, &self->half_);
    if (length == size_t(-2)) continue;
    if (length == size_t(-1)) {
      self->half_ = {};
      *character = 0xFFFD;
    }
    return 1;
  }
}

LineReader::Result LineReader::read(const char* prompt, std::string& line) {
  if (!editor_) {
    if (!std::getline(std::cin, line)) return Result::end;
  } else {
    prompt_ = prompt;
    interrupted = 0;
    int length = 0;
    el_set(editor_, EL_PREP_TERM, 1);  // before the prompt invites to type
    const char* const text = el_gets(editor_, &length);
    if (!text) {
      const LineInfo* const typed = el_line(editor_);
      std::fputs(interrupted ? "^C\n" : "\n", stdout);
      return !interrupted                       ? Result::end
             : typed->lastchar == typed->buffer ? Result::interrupted_empty
                                                : Result::interrupted;
    }
    line.assign(text);
    if (line.ends_with('\n')) line.pop_back();
  }
  if (line.ends_with('\r')) line.pop_back();
  Utf8Stream utf8;
  line = utf8.push(line);
  line += utf8.finish();
  return Result::line;
}

void LineReader::remember(const std::string& line) {
  HistEvent event;
  if (history_) history(history_, &event, H_ENTER, line.c_str());
}

}  // namespace ms
