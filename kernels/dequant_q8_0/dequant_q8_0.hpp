// dequant_q8_0.hpp: Q8_0 blocks, y = d * q, as they lie in a file, to f16 or f32.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct DequantQ80 {
  gpu::View quantized;  // [num_blocks, 34] bytes, as u32 words, the last one filled up
  gpu::View y;          // f16 or f32: 32 elements a block, from output_offset on
  uint32_t num_blocks = 0;
  uint32_t output_offset = 0;  // a multiple of 8

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool f16_out = true;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(2, 256));
      v("F16_OUT", f16_out, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_blocks, output_offset;
  };
};

extern const gpu::Kernel dequant_q8_0_kernel;

gpu::Work dequant_q8_0(const gpu::Caps& caps, const DequantQ80& args);  // by y's type
gpu::Work dequant_q8_0(const gpu::Caps& caps, const DequantQ80& args, DequantQ80::Overrides over);

}  // namespace ms
