// utf8.cpp: the table of well-formed sequences (The Unicode Standard, table 3-7) as one function.
#include "text/utf8.hpp"

#include <algorithm>
#include <cstdint>

namespace ms {

size_t code_points(std::string_view bytes) {
  return size_t(std::ranges::count_if(bytes, [](char c) { return (c & 0xc0) != 0x80; }));
}

namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

struct Sequence {
  size_t bytes;   // that belong together
  size_t wanted;  // of the whole character; 0: no character begins with these bytes
};

// The longest prefix of `text` (not empty) that is a character or the beginning of one; at least a
// byte.
Sequence first_sequence(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return {1, 1};
  if (lead < 0xC2 || lead > 0xF4) return {1, 0};
  const size_t wanted = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The second byte excludes overlong forms, surrogates and what lies beyond U+10FFFF.
  const uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  size_t bytes = 1;
  while (bytes < wanted && bytes < text.size()) {
    const bool second = bytes == 1;
    if (byte(bytes) < (second ? low : 0x80) || byte(bytes) > (second ? high : 0xBF)) {
      return {bytes, 0};
    }
    ++bytes;
  }
  return {bytes, wanted};
}

}  // namespace

std::string Utf8Stream::push(std::string_view bytes) {
  std::string text = std::move(held_);
  held_.clear();
  text += bytes;
  std::string out;
  out.reserve(text.size());
  for (std::string_view rest = text; !rest.empty();) {
    const Sequence sequence = first_sequence(rest);
    const std::string_view taken = rest.substr(0, sequence.bytes);
    rest.remove_prefix(sequence.bytes);
    if (sequence.bytes == sequence.wanted) {
      out += taken;
    } else if (sequence.wanted > 0) {  // cut off by the end
      held_ = taken;
    } else {
      out += kReplacement;
    }
  }
  return out;
}

std::string Utf8Stream::finish() {
  const bool half = !held_.empty();
  held_.clear();
  return std::string(half ? kReplacement : "");
}

}  // namespace ms
