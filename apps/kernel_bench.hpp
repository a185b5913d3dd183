// kernel_bench.hpp: mainspring bench --kernels: kernels by themselves, at the shapes of models.
#pragma once
#include <string>
#include <vector>

#include "apps/common.hpp"

namespace ms {

// Times each kernel, or those named; prints a table, or JSON. Right before each line its pipelines
// run beside their twins, at a small size: throws Error where they differ, and prints nothing.
// Throws std::invalid_argument for an unknown name.
void bench_kernels(const GlobalOptions& options, const std::vector<std::string>& names, bool json);

}  // namespace ms
