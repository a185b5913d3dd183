// fused_swiglu.hpp: y = silu(gate + bias) * (up + bias), of rows gate | up (SwiGLU; Shazeer, 2020).
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct FusedSwiglu {
  gpu::View input;           // [rows, 2 * dim] f32: dim gates, then dim ups
  gpu::View bias;            // [bias_offset + 2 * dim] f32 or more: an expert's part of a table
  gpu::View y;               // [rows, dim] f32, of another buffer than input and bias
  uint32_t bias_offset = 0;  // elements before the bias
  float clamp_max = 0;       // 0: none; else gate <= clamp_max, |up| <= clamp_max (gpt-oss)

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_tokens, dim, bias_offset;
    float clamp_max;
  };
};

extern const gpu::Kernel fused_swiglu_kernel;

gpu::Work fused_swiglu(const gpu::Caps& caps, const FusedSwiglu& args,
                       FusedSwiglu::Overrides over = {});

}  // namespace ms
