// mainspring.hpp: the public face of the library: language models on any GPU through WebGPU.
#pragma once
#include <string_view>

#pragma GCC visibility push(default)
namespace ms {

// The library's version, "major.minor.patch".
std::string_view version();

}  // namespace ms
#pragma GCC visibility pop
