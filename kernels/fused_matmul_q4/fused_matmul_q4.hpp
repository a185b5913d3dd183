// fused_matmul_q4.hpp: C = alpha * A B^T for a B of Q4_K blocks as they lie in a file.
//
// For those who keep a file's blocks as they are; matmul and matmul_gemv read packed weights
// (kernels/weight.hpp) of any type.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct FusedMatmulQ4 {
  gpu::View a;  // [M, K] f32, K a multiple of 256
  gpu::View b;  // u32: [N, K / 256, 36] words of Q4_K blocks
  gpu::View c;  // [M, N] f32
  float alpha = 1;

  struct Overrides {
    uint32_t workgroup_size = 64;  // a power of two, 8 or more
    bool multicol = false;
    bool batched = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(8, 256));
      v("MULTICOL", multicol, {false, true});
      v("BATCHED", batched, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t M, N, K;
    float alpha;
    uint32_t num_blocks_per_row;
  };
};

extern const gpu::Kernel fused_matmul_q4_kernel;

gpu::Work fused_matmul_q4(const gpu::Caps& caps, const FusedMatmulQ4& args);
gpu::Work fused_matmul_q4(const gpu::Caps& caps, const FusedMatmulQ4& args,
                          FusedMatmulQ4::Overrides over);

}  // namespace ms
