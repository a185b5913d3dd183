// kernel_docs.hpp: docs/kernels.md, made from the kernels themselves.
#pragma once
#include <string>

namespace ms {

// The page: of each kernel what it computes, its overrides, which of their combinations it refuses
// and why, its bindings, its parameters and what it replaces. ./check compares it with the file.
std::string kernel_docs();

}  // namespace ms
