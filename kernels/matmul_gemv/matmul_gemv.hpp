// matmul_gemv.hpp: y = alpha * W x for packed weights of any type; x may be normalised on the way
// in.
#pragma once
#include "gpu/work.hpp"
#include "kernels/weight.hpp"

namespace ms {

// How rows of a packed weight are dealt out to lanes: the overrides that matmul_gemv,
// matmul_gemv_residual and fused_ffn share beside their own (shared/gemv.wgsl).
struct GemvShape {
  uint32_t workgroup_size = 256;  // power of two
  uint32_t rows = 2;              // ROWS: of W, a team
  uint32_t chunk = 32;            // blocks of x staged at a time
  uint32_t team = 8;              // with MULTICOL: lanes a row
  uint32_t row_tile = 1;          // the weight's
  uint32_t groups = 0;   // workgroups at most, which then walk the rows; 0: as many as there are
                         // rows for. No override
  uint32_t split = 1;    // subgroups that share a row, where subgroups do
  uint32_t unroll = 0;   // pairs of blocks of a row, or pieces of 16 bytes, at once; 0: one block
  uint32_t vectors = 1;  // VECTORS: rows of x that a workgroup multiplies at once

  // Beyond what every device has room for; empty where it is not.
  std::string_view refusal(bool int16) const {
    return !int16 && vectors > 1 && vectors * chunk > 64
               ? "VECTORS times CHUNK blocks of f32 are more than 64, 9 KB"
               : "";
  }
};

// The choice for a device and a matrix: `rows` rows of it, or of an expert's, times so many
// vectors, in f32 or int16, which meet the same rows. `subgroups` and `multicol` say which form;
// the key is what the shape is tuned by.
struct GemvChoice {
  bool subgroups, multicol;
  GemvShape shape;
  std::string tuning_key = {};
};
GemvChoice choose_gemv(const gpu::Caps& caps, std::string_view kernel, const Weight& weight,
                       uint32_t rows, bool int16_activations, uint32_t vectors);

// The work, of which each dispatch says that it was tuned by the choice's key.
gpu::Work with_tuning_key(gpu::Work work, const GemvChoice& choice);

// Workgroups along x for `rows` rows of W; fewer would do, since groups stride.
uint32_t gemv_groups(const gpu::Caps& caps, uint32_t rows, bool subgroups, bool multicol,
                     const GemvShape& shape);

struct MatmulGemv {
  gpu::View x;          // [M, K] f32; rows are x_stride elements apart
  Weight weight;        // [N, K], or [num_experts * N, K]
  gpu::View norm = {};  // [K] f32: x is taken as x / sqrt(mean(x^2) + eps) * norm; absent: as it is
  gpu::View y;          // [M, y_stride] f32; results go to columns y_offset to y_offset + N
  uint32_t x_stride = 0;  // 0: K. A multiple of 4 when M > 1
  uint32_t y_offset = 0;
  float alpha = 1;
  float eps = 1e-6f;
  bool int16_activations =
      false;  // x rounded to 16-bit integers (shared/int16.wgsl); weights of float types: no
  gpu::View experts = {};  // [M] u32: which of the experts' [N, K] each row of x meets
  uint32_t num_experts = 1;

  struct Overrides : GemvShape {
    bool use_subgroups = true;
    bool multicol = false;
    bool batched = false;
    uint32_t weight_type = 0;
    bool norm_input = false;
    bool int16_activations = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(8, 1024));
      v("USE_SUBGROUPS", use_subgroups, {false, true});
      v("MULTICOL", multicol, {false, true});
      v("BATCHED", batched, {false, true});
      v("WEIGHT_TYPE", weight_type, all_weight_types);
      v("NORM_INPUT", norm_input, {false, true});
      v("INT16_ACTIVATIONS", int16_activations, {false, true});
      v("CHUNK", chunk, {16u, 32u}, gpu::sizing.powers_to(16, 512));
      v("TEAM", team, {8u, 1u}, gpu::sizing);
      v("ROW_TILE", row_tile, {8u, 1u}, gpu::sizing);
      v("SPLIT", split, {1u, 2u}, gpu::sizing.powers_to(1, 8));
      v("UNROLL", unroll, {0u, 1u}, gpu::sizing.to(0, 16));
      v("ROWS", rows, {2u, 1u}, gpu::in_prelude.powers_to(1, 8));
      v("VECTORS", vectors, {1u, 2u, 4u}, gpu::in_prelude.powers_to(1, 8));
    }
    std::string_view refusal() const {
      if (vectors > 1 && !batched) return "VECTORS are several rows of x: with BATCHED";
      if (const auto why = GemvShape::refusal(int16_activations); !why.empty()) return why;
      return int16_activations && is_float(WeightType(weight_type))
                 ? "INT16_ACTIVATIONS multiplies integers: not for float weights"
                 : "";
    }
  };
  struct Params {
    uint32_t M, N, K;
    float alpha, eps;
    uint32_t row_blocks, x_stride, y_stride, y_offset, num_experts, first_expert;
  };
};

extern const gpu::Kernel matmul_gemv_kernel;

gpu::Work matmul_gemv(const gpu::Caps& caps, const MatmulGemv& args);
gpu::Work matmul_gemv(const gpu::Caps& caps, const MatmulGemv& args, MatmulGemv::Overrides over);

// The rows of each expert's matrix, num_experts of which are one weight; experts name one for each
// of `rows` rows. `kernel` is for the message.
uint32_t rows_of_expert(std::string_view kernel, const Weight& weight, const gpu::View& experts,
                        uint32_t num_experts, uint32_t rows);

// What matmul_gemv, matmul_gemv_residual and fused_ffn require alike; `kernel` is for the message.
void require_gemv(const gpu::Caps& caps, std::string_view kernel, const gpu::View& x,
                  const Weight& weight, const gpu::View& norm, uint32_t x_stride,
                  bool use_subgroups, bool multicol, bool int16, const GemvShape& shape);

// The twins' common part: row m of x, normalised and rounded as the overrides say, in double.
std::vector<double> gemv_vector(std::span<const float> x, std::span<const float> norm,
                                uint32_t cols, bool norm_input, double eps, bool int16_activations);

}  // namespace ms
