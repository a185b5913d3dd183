// matmul_gemv_residual.hpp: y = alpha * W x + residual for packed weights of any type.
#pragma once
#include "kernels/attention_combine/attention_combine.hpp"
#include "kernels/matmul_gemv/matmul_gemv.hpp"

namespace ms {

struct MatmulGemvResidual {
  gpu::View x = {};           // [M, K] f32; rows are x_stride elements apart
  Weight weight;              // [N, K]
  gpu::View residual;         // [M, N] f32
  gpu::View y;                // [M, N] f32, of another buffer than residual
  uint32_t x_stride = 0;      // 0: K. A multiple of 4 when M > 1
  AttentionParts parts = {};  // in place of x: an attention of M rows of K elements, K in 32s
  float alpha = 1;
  bool int16_activations =
      false;  // x rounded to 16-bit integers (shared/int16.wgsl); weights of float types: no

  struct Overrides : GemvShape {
    bool use_subgroups = true;
    bool multicol = false;
    uint32_t weight_type = 0;
    bool int16_activations = false;
    bool parts = false;
    bool f16_parts = false;
    uint32_t head_dim = 128;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(8, 1024));
      v("USE_SUBGROUPS", use_subgroups, {false, true});
      v("MULTICOL", multicol, {false, true});
      v("WEIGHT_TYPE", weight_type, all_weight_types);
      v("INT16_ACTIVATIONS", int16_activations, {false, true});
      v("PARTS", parts, {false, true});
      v("F16_PARTS", f16_parts, {false, true});
      v("CHUNK", chunk, {16u, 32u}, gpu::sizing.powers_to(16, 512));
      v("TEAM", team, {8u, 1u}, gpu::sizing);
      v("ROW_TILE", row_tile, {8u, 1u}, gpu::sizing);
      v("SPLIT", split, {1u, 2u}, gpu::sizing.powers_to(1, 8));
      v("UNROLL", unroll, {0u, 1u}, gpu::sizing.to(0, 16));
      v("ROWS", rows, {2u, 1u}, gpu::in_prelude.powers_to(1, 8));
      v("VECTORS", vectors, {1u, 2u, 4u}, gpu::in_prelude.powers_to(1, 8));
      v("HEAD_DIM", head_dim, {128u, 32u}, gpu::in_prelude.to(16, 256));
    }
    std::string_view refusal() const {
      if (const auto why = GemvShape::refusal(int16_activations); !why.empty()) return why;
      if (parts && (multicol || !use_subgroups))
        return "PARTS are of an attention that takes subgroups: a row's sum is a subgroup's";
      if (f16_parts && !parts) return "F16_PARTS says of what the PARTS are";
      if (head_dim % 16) return "HEAD_DIM is read in sixteens";
      return int16_activations && is_float(WeightType(weight_type))
                 ? "INT16_ACTIVATIONS multiplies integers: not for float weights"
                 : "";
    }
  };
  struct Params {
    uint32_t M, N, K;
    float alpha;
    uint32_t row_blocks, x_stride, y_stride, y_offset, splits;
  };
};

extern const gpu::Kernel matmul_gemv_residual_kernel;

gpu::Work matmul_gemv_residual(const gpu::Caps& caps, const MatmulGemvResidual& args);
gpu::Work matmul_gemv_residual(const gpu::Caps& caps, const MatmulGemvResidual& args,
                               MatmulGemvResidual::Overrides over);

}  // namespace ms
