// lane.hpp: what wrappers must know of lane.subgroups.wgsl.
#pragma once
#include <cstdint>

namespace ms {

inline constexpr uint32_t shared_lanes = 8;  // lanes of a subgroup that first_lanes_vec4f takes

}  // namespace ms
