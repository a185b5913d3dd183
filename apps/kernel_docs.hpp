// kernel_docs.hpp: docs/kernels.md, made from the kernels themselves.
#pragma once
#include <string>

#include "gpu/device.hpp"

namespace ms {

// The page: of each kernel what it computes, its limits and tolerance, its overrides, which of
// their combinations it refuses and why, its bindings, its parameters and what it replaces. ./check
// compares it with the file. The device holds the cases' data, and does nothing else.
std::string kernel_docs(gpu::Device& device);

}  // namespace ms
