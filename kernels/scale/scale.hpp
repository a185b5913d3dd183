// scale.hpp: y = scale * x, element by element, or in place.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct Scale {
  gpu::View x = {};  // [size] f32; absent: y is scaled in place
  gpu::View y;       // [size] f32, of another buffer than x
  float scale = 1;

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t size;
    float scale;
    uint32_t inplace;
  };
};

extern const gpu::Kernel scale_kernel;

gpu::Work scale(const gpu::Caps& caps, const Scale& args, Scale::Overrides over = {});

}  // namespace ms
