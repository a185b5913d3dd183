// kernels.hpp: every kernel room. The list of rooms is made by the build from the folders.
#pragma once
#include <span>

#include "gpu/work.hpp"
#include "kernels/rmsnorm/rmsnorm.hpp"
#include "kernels/scale/scale.hpp"

namespace ms {

// Every kernel, sorted by name. Each room declares NAME_kernel, used by its wrapper and its tests.
std::span<const gpu::Kernel* const> all_kernels();

extern const gpu::Kernel rmsnorm_kernel;
extern const gpu::Kernel scale_kernel;

}  // namespace ms
