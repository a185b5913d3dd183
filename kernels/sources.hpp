// sources.hpp: the WGSL texts of kernels/, which the build embeds into the library.
#pragma once
#include <span>

#include "gpu/shader.hpp"

namespace ms {

// Every WGSL file under kernels/, sorted by name, for DeviceOptions::sources.
std::span<const WgslSource> wgsl_sources();

}  // namespace ms
