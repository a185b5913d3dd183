// range.hpp: a range of numbers, as messages and helps say it.
#pragma once
#include <fmt/format.h>

#include <limits>
#include <string>
#include <type_traits>

namespace ms {

// "0 to 1", "384", "0 or more"; empty for all of a type that has more numbers than anyone writes. A
// float's least positive number stands for all above 0.
template <class Number>
std::string range(Number least, Number most) {
  using Limits = std::numeric_limits<Number>;
  if (std::is_floating_point_v<Number> && least == Limits::min())
    return most < Limits::max() ? fmt::format("above 0, at most {}", most) : "above 0";
  if (least == most) return fmt::format("{}", least);
  constexpr bool wide = std::is_floating_point_v<Number> || sizeof(Number) == 8;
  if (!wide || most < Limits::max()) return fmt::format("{} to {}", least, most);
  return least > Limits::lowest() ? fmt::format("{} or more", least) : "";
}

}  // namespace ms
