// fused_matmul_rmsnorm.hpp: y = rmsnorm(x W) * norm_weight + residual: a product, normalised.
//
// matmul_gemv's NORM_INPUT is another thing: there, x is normalised.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct FusedMatmulRmsNorm {
  gpu::View x;                 // [rows, K] f32
  gpu::View weight;            // [K, N] f32, or [N, K] with transpose_b
  gpu::View norm_weight = {};  // [N] f32; absent with PHASE1_ONLY
  gpu::View residual = {};     // [rows, N] f32, added after the norm; may be absent
  gpu::View y;                 // [rows, N] f32, of no input's buffer
  bool transpose_b = false;
  float eps = 1e-6f;

  struct Overrides {
    uint32_t workgroup_size = 256;  // power of two, 32 or more
    bool small_n = false;
    bool medium_n = false;
    bool phase1_only = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(32, 256));
      v("SMALL_N", small_n, {false, true});
      v("MEDIUM_N", medium_n, {false, true});
      v("PHASE1_ONLY", phase1_only, {false, true});
    }
    std::string_view refusal() const {
      return small_n + medium_n + phase1_only > 1
                 ? "SMALL_N, MEDIUM_N and PHASE1_ONLY are one form each"
                 : "";
    }
  };
  struct Params {
    uint32_t rows, N, K;
    float eps;
    uint32_t has_residual, transpose_b;
  };
};

extern const gpu::Kernel fused_matmul_rmsnorm_kernel;

// One dispatch where a workgroup can make a row of y in good time; else two: PHASE1_ONLY into
// scratch, and rmsnorm.
gpu::Work fused_matmul_rmsnorm(const gpu::Caps& caps, const FusedMatmulRmsNorm& args);
// One dispatch. With PHASE1_ONLY y is the product alone.
gpu::Work fused_matmul_rmsnorm(const gpu::Caps& caps, const FusedMatmulRmsNorm& args,
                               FusedMatmulRmsNorm::Overrides over);

}  // namespace ms
