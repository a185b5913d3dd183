// architecture.cpp: the list of architectures.
#include "model/architecture.hpp"

namespace ms {

std::span<const Architecture* const> architectures() {
  static constexpr const Architecture* all[] = {&llama, &granite, &qwen2, &qwen3, &gemma3};
  return all;
}

}  // namespace ms
