// utf8.hpp: bytes that arrive in pieces, as text that is UTF-8 at every moment.
#pragma once
#include <string>
#include <string_view>

namespace ms {

// The code points that begin in these bytes.
size_t code_points(std::string_view bytes);

// Holds back the bytes of a character that is not complete yet. What can't become a character turns
// into U+FFFD, one for each maximal subpart (The Unicode Standard, section 3.9, "U+FFFD
// Substitution of Maximal Subparts").
class Utf8Stream {
 public:
  std::string push(std::string_view bytes);  // the text that is complete now
  std::string finish();  // U+FFFD if a character was left half, else nothing; then as new

 private:
  std::string held_;  // a proper prefix of a character, at most 3 bytes
};

}  // namespace ms
