// test_errors.hpp: for tests only: what exceptions say.
#pragma once
#include <gtest/gtest.h>

#include <functional>
#include <string>

namespace ms {

// What the exception of type E says that `run` throws; fails when it throws none.
template <class E>
std::string message_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const E& error) {
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

}  // namespace ms

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)
