// utf8_test.cpp: every split of text, every code point, and the tables of the Unicode Standard.
#include "text/utf8.hpp"

#include <gtest/gtest.h>

#include <cstdint>
#include <random>
#include <vector>

namespace ms {
namespace {

constexpr std::string_view kMixed =
    "aé€😀 \xF0\x9F\xA6\x99z\xC2\xA2\xED\x9F\xBF\xEE\x80\x80\xF4\x8F\xBF\xBF!";

std::string whole(std::string_view bytes) {
  Utf8Stream stream;
  const std::string text = stream.push(bytes);
  return text + stream.finish();
}

std::string character(uint32_t code) {
  const auto byte = [](uint32_t bits) { return static_cast<char>(bits); };
  const auto tail = [&](int shift, uint32_t c) { return byte(0x80 | (c >> shift & 0x3F)); };
  if (code < 0x80) return {byte(code)};
  if (code < 0x800) return {byte(0xC0 | code >> 6), tail(0, code)};
  if (code < 0x10000) return {byte(0xE0 | code >> 12), tail(6, code), tail(0, code)};
  return {byte(0xF0 | code >> 18), tail(12, code), tail(6, code), tail(0, code)};
}

TEST(Utf8Stream, text_comes_through_unchanged_however_it_is_split) {
  for (size_t first = 0; first <= kMixed.size(); ++first) {
    for (size_t second = first; second <= kMixed.size(); ++second) {
      Utf8Stream stream;
      std::string text;
      for (const auto part :
           {kMixed.substr(0, first), kMixed.substr(first, second - first), kMixed.substr(second)}) {
        const std::string out = stream.push(part);
        EXPECT_EQ(whole(out), out) << "half a character at " << first << ", " << second;
        text += out;
      }
      EXPECT_EQ(text, kMixed);
      EXPECT_EQ(stream.finish(), "");
    }
  }
}

TEST(Utf8Stream, a_character_appears_with_its_last_byte) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("\xF0"), "");
  EXPECT_EQ(stream.push("\x9F\xA6"), "");
  EXPECT_EQ(stream.push("\x99"
                        "a\xC3"),
            "🦙a");
  EXPECT_EQ(stream.finish(), "\uFFFD");
  EXPECT_EQ(stream.push("\xA9 b"), "\uFFFD b");  // the first byte was given up by finish()
}

TEST(Utf8Stream, every_code_point_is_a_character_and_no_surrogate_is) {
  for (uint32_t code = 0; code < 0x110000; ++code) {
    const std::string bytes = character(code);
    if (code >= 0xD800 && code < 0xE000) {
      ASSERT_EQ(whole(bytes), "\uFFFD\uFFFD\uFFFD") << code;
    } else {
      ASSERT_EQ(whole(bytes), bytes) << code;
    }
  }
  EXPECT_EQ(whole(character(0x110000)), "\uFFFD\uFFFD\uFFFD\uFFFD");
}

TEST(Utf8Stream, maximal_subparts_are_replaced_as_in_the_unicode_standard) {
  const std::string r = "\uFFFD";
  // Tables 3-8 to 3-11 of section 3.9.
  EXPECT_EQ(whole("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(whole("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), r + r + r + r + r + r + r + r + "A");
  EXPECT_EQ(whole("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), r + r + r + r + r + "A" + r + r + "B");
  EXPECT_EQ(whole("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), r + r + r + r + "A");
}

TEST(Utf8Stream, splits_do_not_change_what_invalid_bytes_become) {
  std::mt19937 random(7);
  const std::string_view bytes =
      "\x41\x7F\x80\x9F\xA0\xBF\xC1\xC2\xE0\xE1\xED\xEF\xF0\xF1\xF4\xF5\xFF";
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += bytes[random() % bytes.size()];
    Utf8Stream stream;
    std::string out;
    for (size_t begin = 0; begin < text.size();) {
      const size_t count = random() % 4;
      out += stream.push(std::string_view(text).substr(begin, count));
      begin += count;
    }
    out += stream.finish();
    EXPECT_EQ(out, whole(text));
    EXPECT_EQ(whole(out), out);
  }
}

}  // namespace
}  // namespace ms
