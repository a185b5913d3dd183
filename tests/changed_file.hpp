// changed_file.hpp: for tests only: a model file with one thing in it wrong.
#pragma once
#include <cstring>
#include <string>
#include <string_view>

#include "base/test_errors.hpp"
#include "base/test_files.hpp"
#include "engine/engine.hpp"

namespace ms {

// Where a key or a tensor's name ends.
inline size_t end_of(const std::string& bytes, std::string_view name) {
  const size_t at = bytes.find(name);
  if (at == bytes.npos) fail("the file has no {}", name);
  return at + name.size();
}

// The file with another u32, or f32 bits, under a key of its metadata.
inline std::string with_number(const std::string& file, std::string_view key, uint32_t value) {
  std::string bytes = read_file(file);
  // Behind the key are its type and the value.
  std::memcpy(bytes.data() + end_of(bytes, key) + 4, &value, 4);
  return bytes;
}

// The file with a key or tensor under another name.
inline std::string without(const std::string& file, std::string_view name) {
  std::string bytes = read_file(file);
  bytes[end_of(bytes, name) - 1] ^= 1;
  return bytes;
}

// Loading the file must be an Error that says `what` and names it.
inline void expect_refused(const std::string& file, std::string_view what) {
  const TemporaryFile broken(file);
  const std::string message =
      message_of<Error>([&] { Engine(EngineOptions{.model = broken.path()}); });
  EXPECT_SAYS(message, what);
  EXPECT_SAYS(message, broken.path().string());
}

}  // namespace ms
