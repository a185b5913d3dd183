// cast_f32_to_f16.hpp: y = x, f32 rounded to f16; beyond its range, +-65504.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct CastF32ToF16 {
  gpu::View x;  // [size] f32
  gpu::View y;  // [size] f16, of another buffer than x

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t size;
  };
};

extern const gpu::Kernel cast_f32_to_f16_kernel;

gpu::Work cast_f32_to_f16(const gpu::Caps& caps, const CastF32ToF16& args,
                          CastF32ToF16::Overrides over = {});

}  // namespace ms
