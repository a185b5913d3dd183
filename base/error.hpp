// error.hpp: the two kinds of failure that callers see, and how to raise them.
#pragma once
#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace ms {

// The world's fault: a file, a device, the network. Says what was tried, on what, and what to do
// next.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The caller's mistake unless `condition`: throws std::invalid_argument with the formatted message.
template <class... Args>
void require(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw std::invalid_argument(fmt::format(format, std::forward<Args>(args)...));
}

// The world's fault: throws Error with the formatted message.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace ms
