// dequant_q4k.hpp: Q4_K blocks, y = d * scale * q - dmin * least, as they lie in a file, to f16 or
// f32.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct DequantQ4K {
  gpu::View quantized;  // [num_blocks, 144] bytes, as u32 words, the last one filled up
  gpu::View y;          // f16 or f32: 256 elements a block, from output_offset on
  uint32_t num_blocks = 0;
  uint32_t output_offset = 0;  // a multiple of 8

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool use_subgroups = false;
    bool use_vec4 = false;
    bool f16_out = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(2, 256));
      v("USE_SUBGROUPS", use_subgroups, {false, true});
      v("USE_VEC4", use_vec4, {false, true});
      v("F16_OUT", f16_out, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_blocks, output_offset;
  };
};

extern const gpu::Kernel dequant_q4k_kernel;

gpu::Work dequant_q4k(const gpu::Caps& caps, const DequantQ4K& args);  // by y's type
gpu::Work dequant_q4k(const gpu::Caps& caps, const DequantQ4K& args, DequantQ4K::Overrides over);

}  // namespace ms
