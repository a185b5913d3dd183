// matmul_gemv_residual.wgsl: y = alpha * W x + residual for packed weights W of any type; x may be an attention still in parts.
//
// A team of lanes owns ROWS rows of W (shared/gemv.wgsl): SPLIT subgroups, with MULTICOL TEAM lanes, else a workgroup.
// Grid: (groups, rows of x / VECTORS); groups walk the rest of W in strides, so that any subgroup size is right.
// Limits: as matmul_gemv, without BATCHED.
// Replaces main (WEIGHT_TYPE 1) and main_f32 (WEIGHT_TYPE 0) of the old matmul_gemv_residual.wgsl.

#import lane
#import known_lanes
#import reduce
#import left_sums
#import blocks
#import int16
#import splits
#import gemv

override WORKGROUP_SIZE: u32 = 256;       // power of two
override USE_SUBGROUPS: bool = true;      // a row's sum is a subgroup's
override MULTICOL: bool = false;          // TEAM lanes a row, whatever the subgroups
override WEIGHT_TYPE: u32 = 0;            // shared/blocks.wgsl
override INT16_ACTIVATIONS: bool = false; // x is rounded to 16-bit integers (shared/int16.wgsl); not for float weights
override PARTS: bool = false;             // x lies in parts, which are put together where they are staged; with USE_SUBGROUPS, without MULTICOL
override F16_PARTS: bool = false;         // of which the values are f16
override CHUNK: u32 = 32;                 // blocks of 32 of x in workgroup memory at a time
override TEAM: u32 = 8;                   // with MULTICOL: lanes a row, a power of two; 1 with USE_SUBGROUPS: they share what they read of x
override ROW_TILE: u32 = 1;               // of W: kernels/weight.hpp
override SPLIT: u32 = 1;                  // subgroups a team, as many of the workgroup as there are at most; a power of two
override UNROLL: u32 = 0;                 // pairs of blocks of a row, or pieces of 16 bytes, that a lane reads at once; 0: one block or piece
// HEAD_DIM: with PARTS, a multiple of 16

struct Params {
  M: u32,           // rows of x
  N: u32,           // rows of W: what one binding holds
  K: u32,           // columns of W
  alpha: f32,
  row_blocks: u32,  // blocks a row of W
  x_stride: u32,    // elements from row to row of x, a multiple of 4
  y_stride: u32,    // elements from row to row of y and residual
  y_offset: u32,    // where a row's first result goes
  splits: u32,      // with PARTS: that have left them, a multiple of 4; x is [M, K / HEAD_DIM heads, HEAD_DIM], K a multiple of 32
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4u>;        // [M, x_stride] f32, or parts of shared/splits.wgsl
@group(0) @binding(2) var<storage, read> quants: array<vec4u>;   // W, packed
@group(0) @binding(3) var<storage, read> scales: array<u32>;     // W, packed
@group(0) @binding(4) var<storage, read> residual: array<f32>;   // [M, y_stride]
@group(0) @binding(5) var<storage, read_write> y: array<f32>;    // [M, y_stride]

const NORM_INPUT = false;
fn norm4(i: u32) -> vec4f { return vec4f(1); }
fn quant(i: u32) -> vec4u { return quants[i]; }
fn scale_word(i: u32) -> u32 { return scales[i]; }
fn x4(i: u32) -> vec4f { return bitcast<vec4f>(x[i]); }
fn part_unit(i: u32) -> vec4u { return x[i]; }
fn parts_half(i: u32) -> Sixteen {
  let pieces = HEAD_DIM / 16;
  return combined(Splits(params.splits, params.M * (params.K / HEAD_DIM)), i / pieces, i % pieces);
}
fn weight_type() -> u32 { return WEIGHT_TYPE; }
fn team_lanes() -> u32 { return select(select(WORKGROUP_SIZE, 0, USE_SUBGROUPS), TEAM, MULTICOL); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let m = group.id.y * VECTORS;
  let vectors = Vectors(params.K, params.row_blocks, m * params.x_stride, params.x_stride, params.M - m, 0);
  prepare(vectors, at);
  let team = team_of(at);
  let rows = team_count(at) * ROWS;
  for (var base = group.id.x * rows; base < params.N; base += group.count.x * rows) {
    let row = base + team.index * ROWS;
    let sums = gemv(vectors, row, params.N, team, at);
    if (team.lane == 0) {
      for (var c = 0u; c < VECTORS; c++) {
        if (VECTORS > 1) { if (m + c >= params.M) { break; } }
        for (var r = 0u; r < ROWS && row + r < params.N; r++) {
          let i = (m + c) * params.y_stride + params.y_offset + row + r;
          y[i] = params.alpha * sums[c * ROWS + r] + residual[i];
        }
      }
    }
  }
}
