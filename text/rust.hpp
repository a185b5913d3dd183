// rust.hpp: what tokenizer.cpp and chat_template.cpp share to call the Rust crate.
#pragma once
#include <string>
#include <string_view>

#include "text/text_rust.h"

namespace ms::rust {

inline MsTextBytes bytes(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

inline std::string_view view(MsTextBytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data), bytes.size};
}

// Bytes that the crate handed over.
struct Buffer : MsTextBuffer {
  Buffer() : MsTextBuffer{} {}
  ~Buffer() { ms_text_free(*this); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::string_view view() const { return rust::view({data, size}); }
};

}  // namespace ms::rust
