// dequant_mxfp4.hpp: y = 2^(e - 127) * q for the MXFP4 of the OCP Microscaling Formats
// specification, to f32.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct DequantMxfp4 {
  gpu::View blocks;   // u32: [num_experts, rows, cols] nibbles, eight a word, the low ones first
  gpu::View scales;   // u32: [num_experts, rows, cols / group_size] bytes, four a word
  gpu::View y;        // [rows, row_stride] f32, of which cols columns are written
  uint32_t cols = 0;  // 0: all of y's
  uint32_t group_size = 32;  // a multiple of 8
  uint32_t expert_idx = 0;   // whose matrix y is
  uint32_t num_experts = 1;

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool use_vec4 = false;
    bool expert = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(4, 256));
      v("USE_VEC4", use_vec4, {false, true});
      v("EXPERT", expert, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t total_elements, num_groups, group_size, row_stride, expert_idx, num_experts, out_dim;
  };
};

extern const gpu::Kernel dequant_mxfp4_kernel;

gpu::Work dequant_mxfp4(const gpu::Caps& caps, const DequantMxfp4& args);
gpu::Work dequant_mxfp4(const gpu::Caps& caps, const DequantMxfp4& args,
                        DequantMxfp4::Overrides over);

}  // namespace ms
