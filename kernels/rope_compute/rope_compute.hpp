// rope_compute.hpp: rotary embedding (Su et al., 2021) in place, by angles that the kernel
// computes.
#pragma once
#include "kernels/rope_init/rope_init.hpp"

namespace ms {

struct RopeCompute {
  gpu::View x;           // [rows, heads, head_dim] f32, in place; if fused_qk, Q | K in each head
  double base = 10'000;  // more than 1
  RopeScaling scaling = {};  // without factors of the pairs; its factor is at least 1
  uint32_t rotary_dim = 0;   // dimensions that rotate, the first of each head; 0: all
  uint32_t start_pos = 0;    // position of row 0
  bool interleaved = true;   // pairs (2i, 2i + 1), as GGUF lays out llama; else (i, i + pairs)
  bool fused_qk = false;     // x is [rows, heads, 2 * head_dim]

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t seq_len, num_heads, head_dim, rotary_dim, start_pos;
    uint32_t interleaved, fused_qk, scaling_mode;
    float attention_factor;
    uint32_t step_high, step_low, loss_high, loss_low;
    uint32_t ramp_first, ramp_last;
    uint32_t fast_high, fast_low, slow_high, slow_low, slope_high, slope_low;
  };
};

extern const gpu::Kernel rope_compute_kernel;

gpu::Work rope_compute(const gpu::Caps& caps, const RopeCompute& args,
                       RopeCompute::Overrides over = {});

}  // namespace ms
