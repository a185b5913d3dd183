// api_test.cpp: answers' JSON. What requests may say is tests/server_test.py's.
#include "server/api.hpp"

#include <gtest/gtest.h>

namespace ms {
namespace {

TEST(TextLogprobs, parts_of_characters_have_names_of_their_own) {
  const TokenReport report = {{1, "\xF0\x9F", -1},
                              {{1, "\xF0\x9F", -1}, {2, "\xA6", -2}, {3, "狐", -3}}};
  size_t offset = 0;
  const Json json = Json::parse(to_text(text_logprobs({report}, offset)));
  EXPECT_EQ(json["tokens"], Json::array({R"(bytes:\xf0\x9f)"}));
  const Json top = {{R"(bytes:\xf0\x9f)", -1}, {R"(bytes:\xa6)", -2}, {"狐", -3}};
  EXPECT_EQ(json["top_logprobs"], Json::array({top}));
  EXPECT_EQ(offset, 1u);
}

}  // namespace
}  // namespace ms
