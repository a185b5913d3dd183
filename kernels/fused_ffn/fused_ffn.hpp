// fused_ffn.hpp: y = alpha * act(G x) * (U x), the gated half of a feed-forward layer (GLU
// variants, Shazeer 2020).
#pragma once
#include "kernels/matmul_gemv/matmul_gemv.hpp"

namespace ms {

enum class Activation : uint32_t { silu = 0, gelu = 1 };

struct FusedFfn {
  gpu::View x;    // [M, hidden_size] f32; rows are x_stride elements apart
  Weight weight;  // [2 * intermediate_size, hidden_size]: gate row 0, up row 0, gate row 1, …; or
                  // [num_experts * 2 * intermediate_size, hidden_size]
  gpu::View norm =
      {};  // [hidden_size] f32: x is taken as x / sqrt(mean(x^2) + eps) * norm; absent: as it is
  gpu::View y;            // [M, intermediate_size] f32
  uint32_t x_stride = 0;  // 0: hidden_size. A multiple of 4 when M > 1
  Activation activation = Activation::silu;
  float alpha = 1;
  float clamp_max = 0;  // 0: none; else gate <= clamp_max and |up| <= clamp_max
  float eps = 1e-6f;
  bool int16_activations =
      false;  // x rounded to 16-bit integers (shared/int16.wgsl); weights of float types: no
  gpu::View experts = {};  // [M] u32: which of the experts' weights each row of x meets
  uint32_t num_experts = 1;

  struct Overrides : GemvShape {
    bool multi_output = false;
    bool use_subgroups = true;
    bool batched = false;
    bool f16_weights = false;
    uint32_t weight_type = 0;
    bool norm_input = false;
    bool int16_activations = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(8, 1024));
      v("MULTI_OUTPUT", multi_output, {false, true});
      v("USE_SUBGROUPS", use_subgroups, {false, true});
      v("BATCHED", batched, {false, true});
      v("F16_WEIGHTS", f16_weights, {false, true});
      v("WEIGHT_TYPE", weight_type, all_weight_types);
      v("NORM_INPUT", norm_input, {false, true});
      v("INT16_ACTIVATIONS", int16_activations, {false, true});
      v("CHUNK", chunk, {16u, 32u}, gpu::sizing.powers_to(16, 512));
      v("TEAM", team, {8u, 1u}, gpu::sizing);
      v("ROW_TILE", row_tile, {8u, 1u}, gpu::sizing);
      v("SPLIT", split, {1u, 2u}, gpu::sizing.powers_to(1, 8));
      v("UNROLL", unroll, {0u, 1u}, gpu::sizing.to(0, 16));
      v("ROWS", rows, {2u, 4u}, gpu::in_prelude.powers_to(2, 8));
      v("VECTORS", vectors, {1u, 2u, 4u}, gpu::in_prelude.powers_to(1, 8));
    }
    std::string_view refusal() const {
      if (vectors > 1 && !batched) return "VECTORS are several rows of x: with BATCHED";
      if (const auto why = GemvShape::refusal(int16_activations); !why.empty()) return why;
      if (f16_weights && weight_type != 0)
        return "F16_WEIGHTS names the weights' type: WEIGHT_TYPE stays 0";
      if (int16_activations && is_float(WeightType(weight_type)))
        return "INT16_ACTIVATIONS multiplies integers: not for float weights";
      return "";
    }
  };
  struct Params {
    uint32_t M, hidden_size, intermediate_size;
    float alpha;
    uint32_t activation;
    float clamp_max, eps;
    uint32_t row_blocks, x_stride, y_stride, y_offset, num_experts, first_expert;
  };
};

extern const gpu::Kernel fused_ffn_kernel;

// For twins: act(gate) * up in double.
double gated_ref(Activation activation, double gate, double up);

gpu::Work fused_ffn(const gpu::Caps& caps, const FusedFfn& args);
gpu::Work fused_ffn(const gpu::Caps& caps, const FusedFfn& args, FusedFfn::Overrides over);

}  // namespace ms
