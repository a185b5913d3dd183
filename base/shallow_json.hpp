// shallow_json.hpp: JSON that anyone may have written, as far as it is wanted.
#pragma once
#include <nlohmann/json.hpp>
#include <string_view>

namespace ms {

// Without what lies deeper than anything that is wanted: nested values are copied and freed by
// calls within calls. Discarded where the text is no JSON.
template <class Json>
Json parse_shallow(std::string_view text) {
  constexpr int most_depth = 8;
  return Json::parse(
      text.begin(), text.end(), [](int depth, auto, const auto&) { return depth < most_depth; },
      false);
}

}  // namespace ms
