// layernorm.hpp: y = (v - mean) / sqrt(variance + eps) * weight + bias (LayerNorm, Ba et al.,
// 2016), row by row.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct LayerNorm {
  gpu::View x;              // [rows, cols] f32
  gpu::View weight, bias;   // [cols] f32
  gpu::View residual = {};  // [rows, cols] f32, added to x first; or absent
  gpu::View y;              // [rows, cols] f32, of no input's buffer
  float eps = 1e-12f;

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(64, 1024));
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t rows, cols;
    float eps;
    uint32_t has_residual;
  };
};

extern const gpu::Kernel layernorm_kernel;

gpu::Work layernorm(const gpu::Caps& caps, const LayerNorm& args);  // chooses the overrides
gpu::Work layernorm(const gpu::Caps& caps, const LayerNorm& args, LayerNorm::Overrides over);

}  // namespace ms
