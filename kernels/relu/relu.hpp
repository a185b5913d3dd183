// relu.hpp: y = max(x, 0), or leaky: y = x where x > 0, else leaky_alpha * x.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct Relu {
  gpu::View x = {};       // [size] f32; absent: in place
  gpu::View y;            // [size] f32, of another buffer than x
  float leaky_alpha = 0;  // 0: ReLU

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool use_vec4 = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("USE_VEC4", use_vec4, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t size;
    float leaky_alpha;
    uint32_t inplace;
  };
};

extern const gpu::Kernel relu_kernel;

// Four elements a lane where that still makes enough lanes to fill a device.
gpu::Work relu(const gpu::Caps& caps, const Relu& args);
gpu::Work relu(const gpu::Caps& caps, const Relu& args, Relu::Overrides over);

}  // namespace ms
