// bf16_to_f32.hpp: y = x, bf16 as f32, bit for bit.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct Bf16ToF32 {
  gpu::View x;  // [size] bf16, two a word: [(size + 1) / 2] u32
  gpu::View y;  // [size] f32, of another buffer than x

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool single = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("SINGLE", single, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_elements;
  };
};

extern const gpu::Kernel bf16_to_f32_kernel;

gpu::Work bf16_to_f32(const gpu::Caps& caps, const Bf16ToF32& args, Bf16ToF32::Overrides over = {});

}  // namespace ms
