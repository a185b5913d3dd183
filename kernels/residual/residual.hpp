// residual.hpp: y = a + scale * b, element by element, or in place; b may be a sum.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct AddResidual {
  gpu::View a = {};  // [size] f32; absent: b is added to y in place
  gpu::View b;       // [size] f32, or [parts, size]: their sum
  gpu::View y;       // [size] f32, of another buffer than a and b
  float scale = 0;   // of b; 0: none, y = a + b
  uint32_t parts = 1;
  bool sum_only = false;  // y = scale * b, without a

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
    float scale;
    uint32_t inplace, parts;
  };
};

extern const gpu::Kernel residual_kernel;

// Four elements a lane where that still makes enough lanes to fill a device.
gpu::Work residual(const gpu::Caps& caps, const AddResidual& args);
gpu::Work residual(const gpu::Caps& caps, const AddResidual& args, AddResidual::Overrides over);

}  // namespace ms
