// lane.hpp: what wrappers must know of lane.subgroups.wgsl.
#pragma once
#include <string_view>

#include "base/error.hpp"
#include "gpu/caps.hpp"

namespace ms {

inline constexpr uint32_t shared_lanes = 8;  // lanes of a subgroup that first_lanes_vec4f takes

inline bool has_shared_lanes(const gpu::Caps& caps) {
  return caps.min_subgroup_size >= shared_lanes;
}

inline void require_shared_lanes(const gpu::Caps& caps, std::string_view kernel) {
  require(has_shared_lanes(caps), "{}: USE_SUBGROUPS takes {} lanes a subgroup, {} has {}", kernel,
          shared_lanes, caps.name, caps.min_subgroup_size);
}

}  // namespace ms
