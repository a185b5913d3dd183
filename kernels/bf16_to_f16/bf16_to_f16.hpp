// bf16_to_f16.hpp: y = x, bf16 rounded to f16; beyond its range, +-65504.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct Bf16ToF16 {
  gpu::View x;  // [size] bf16, two a word: [(size + 1) / 2] u32
  gpu::View y;  // [size] f16, of another buffer than x

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_elements;
  };
};

extern const gpu::Kernel bf16_to_f16_kernel;

gpu::Work bf16_to_f16(const gpu::Caps& caps, const Bf16ToF16& args, Bf16ToF16::Overrides over = {});

}  // namespace ms
