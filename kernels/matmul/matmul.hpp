// matmul.hpp: C = alpha * A B with f32 sums; B is plain, or a packed weight of any type.
//
// On a device with subgroup matrices A and B are rounded to f16, unless B is of type f32; beyond
// f16's range they become +-65504.
#pragma once
#include "gpu/work.hpp"
#include "kernels/weight.hpp"

namespace ms {

struct Matmul {
  gpu::View a;  // [M, K] f32, or f16 when c is or where takes_halves()
  Weight b;     // [N, K], packed; a plain float matrix (see plain_b) may be transposed
  gpu::View c;  // [M, c_stride] f32, or f16; results go to columns c_offset to c_offset + N
  gpu::View residual = {};  // [M, N] f32: added to the product, in c of another buffer, [M, N] too
  bool transpose_b = true;  // false: b is [K, N], of a float type
  uint32_t c_offset = 0;    // even for f16
  float alpha = 1;
  // Parts of K whose sums are made apart, in scratch, and then added: a c of [M, N] f32 may have
  // several. 0: as many as keep the device busy.
  uint32_t splits = 0;

  struct Overrides {
    bool f16_mode = false;
    bool mixed_precision = false;
    bool use_vec4 = false;
    uint32_t weight_type = 0;
    uint32_t row_tile = 1;
    bool row_lanes = false;
    bool use_subgroups = false;
    bool matrix = false;
    uint32_t workgroup_size = 64;
    uint32_t tile_m = 8;
    uint32_t lane_n = 8;

    void visit(auto&& v) {
      v("F16_MODE", f16_mode, {false, true});
      v("MIXED_PRECISION", mixed_precision, {false, true});
      v("USE_VEC4", use_vec4, {false, true});
      v("WEIGHT_TYPE", weight_type, all_weight_types);
      v("ROW_TILE", row_tile, {8u, 1u}, gpu::sizing);
      v("ROW_LANES", row_lanes, {false, true});
      v("USE_SUBGROUPS", use_subgroups, {false, true});
      v("MATRIX", matrix, {false, true});
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u, 32u}, gpu::sizing);
      v("TILE_M", tile_m, {8u, 1u}, gpu::in_prelude);
      v("LANE_N", lane_n, {8u, 2u}, gpu::in_prelude);
    }
    std::string_view refusal() const {
      if (f16_mode && mixed_precision)
        return "F16_MODE has f16 weights, MIXED_PRECISION f32 activations besides: one of them";
      if ((f16_mode || mixed_precision) && weight_type != 0)
        return "F16_MODE and MIXED_PRECISION name the type of B: WEIGHT_TYPE stays 0";
      if (use_subgroups && !row_lanes)
        return "USE_SUBGROUPS is for what lanes of ROW_LANES all need";
      if (matrix && row_lanes)
        return "MATRIX gives matrices to subgroups, ROW_LANES columns to lanes: one of them";
      if (matrix && (workgroup_size != 256 || std::max(2u, tile_m) * lane_n < 16))
        return "MATRIX has eight subgroups, 256 lanes, of 32 rows, or all, and 16 columns at least";
      if (!row_lanes && !matrix && workgroup_size != 64)
        return "a tile of 64 x 64 is 8 x 8 for each of 64 lanes";
      return "";
    }
  };
  struct Params {
    uint32_t M, N, K;
    float alpha;
    uint32_t transpose_b, row_blocks, b_stride, a_stride, c_stride, c_offset, k_part;
  };
};

extern const gpu::Kernel matmul_kernel;

// A plain float matrix [rows, cols] (f32 or f16 view, rows after each other without padding) as
// matmul's b.
Weight plain_b(const gpu::View& matrix);

// Of workgroup memory, with MATRIX.
uint32_t matrix_tile_bytes(const Matmul::Overrides& over);

// Whether an f16 a of so many rows may meet b for an f32 c: it saves rounding an f32 one first.
bool takes_halves(const gpu::Caps& caps, uint32_t rows, const Weight& b);

gpu::Work matmul(const gpu::Caps& caps, const Matmul& args);
gpu::Work matmul(const gpu::Caps& caps, const Matmul& args, Matmul::Overrides over);

}  // namespace ms
