// kernel_bench.hpp: mainspring bench --kernels: kernels by themselves, at the shapes of models.
#pragma once
#include <string>
#include <vector>

#include "apps/common.hpp"

namespace ms {

// Times each kernel, or those named, after its rows of the migration table have matched their twins
// in this process; prints a table, or JSON. Throws std::invalid_argument for an unknown name.
void bench_kernels(const GlobalOptions& options, const std::vector<std::string>& names, bool json);

}  // namespace ms
