// matmul_gemv.wgsl: y = alpha * W x for packed weights W of any type; x may be normalised on the way in.
//
// A team of lanes owns ROWS rows of W (shared/gemv.wgsl): SPLIT subgroups, with MULTICOL TEAM lanes, else a workgroup.
// Grid: (groups, rows of x / VECTORS); groups walk the rest of W in strides, so that any subgroup size is right.
// A mixture of experts has a W each, one behind the other, and a row of x goes to one of them: each row reads its own
// expert's W, so that few rows read few weights; neighbouring rows of one expert find them in the cache.
// Limits: 65,535 rows of x, several only with BATCHED and a multiple of 4 apart; USE_SUBGROUPS takes a device with subgroups,
// with MULTICOL and TEAM 1 of 8 lanes or more.
// Replaces the old matmul_gemv.wgsl and matmul_gemv_subgroup.wgsl: main, multicol, batched; and, at
// WEIGHT_TYPE 1, matmul_f16w_f32a_naive.wgsl.

#import lane
#import known_lanes
#import reduce
#import left_sums
#import blocks
#import int16
#import gemv

override WORKGROUP_SIZE: u32 = 256;        // power of two
override USE_SUBGROUPS: bool = true;       // a row's sum is a subgroup's
override MULTICOL: bool = false;           // TEAM lanes a row, whatever the subgroups
override BATCHED: bool = false;            // several rows of x, group.id.y's VECTORS; const VECTORS: u32, of the prelude, is 1 without
override WEIGHT_TYPE: u32 = 0;             // shared/blocks.wgsl
override NORM_INPUT: bool = false;         // x is taken as x / rms(x) * norm
override INT16_ACTIVATIONS: bool = false;  // x is rounded to 16-bit integers (shared/int16.wgsl); not for float weights
override CHUNK: u32 = 32;                  // blocks of 32 of x in workgroup memory at a time
override TEAM: u32 = 8;                    // with MULTICOL: lanes a row, a power of two; 1 with USE_SUBGROUPS: they share what they read of x
override ROW_TILE: u32 = 1;               // of W: kernels/weight.hpp
override SPLIT: u32 = 1;                  // subgroups a team, as many of the workgroup as there are at most; a power of two
override UNROLL: u32 = 0;                 // pairs of blocks of a row, or pieces of 16 bytes, that a lane reads at once; 0: one block or piece

struct Params {
  M: u32,           // rows of x
  N: u32,           // rows of W, or of an expert's: of W what one binding holds
  K: u32,           // columns of W
  alpha: f32,
  eps: f32,         // of the norm
  row_blocks: u32,  // blocks a row of W
  x_stride: u32,    // elements from row to row of x, a multiple of 4
  y_stride: u32,    // elements from row to row of y
  y_offset: u32,    // where a row's first result goes
  num_experts: u32, // 0: W is one matrix; else that of experts first_expert on: row m of x meets experts[m]'s,
  first_expert: u32,  // and y's row stays as it is where that is not among them
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;        // [M, x_stride] f32
@group(0) @binding(2) var<storage, read> quants: array<vec4u>;   // W, packed
@group(0) @binding(3) var<storage, read> scales: array<u32>;     // W, packed
@group(0) @binding(4) var<storage, read> norm: array<vec4f>;      // [K], with NORM_INPUT
@group(0) @binding(5) var<storage, read_write> y: array<f32>;    // [M, y_stride]
@group(0) @binding(6) var<storage, read> experts: array<u32>;    // [M], with num_experts

const PARTS = false;
fn parts_half(i: u32) -> Sixteen { return Sixteen(); }
fn norm4(i: u32) -> vec4f { return norm[i]; }
fn quant(i: u32) -> vec4u { return quants[i]; }
fn scale_word(i: u32) -> u32 { return scales[i]; }
fn x4(i: u32) -> vec4f { return x[i]; }
fn weight_type() -> u32 { return WEIGHT_TYPE; }
fn team_lanes() -> u32 { return select(select(WORKGROUP_SIZE, 0, USE_SUBGROUPS), TEAM, MULTICOL); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  var m = 0u;
  if (BATCHED) { m = group.id.y * VECTORS; }
  var first = 0u;  // row of W
  if (params.num_experts != 0) {
    let expert = experts[m] - params.first_expert;  // of those before it wraps
    if (expert >= params.num_experts) { return; }
    first = expert * params.N;
  }
  let vectors = Vectors(params.K, params.row_blocks, m * params.x_stride, params.x_stride, params.M - m, params.eps);
  let team = team_of(at);
  let scale = prepare(vectors, at);
  let rows = team_count(at) * ROWS;
  for (var base = group.id.x * rows; base < params.N; base += group.count.x * rows) {
    let row = base + team.index * ROWS;
    let sums = gemv(vectors, first + row, first + params.N, team, at);
    if (team.lane == 0) {
      for (var c = 0u; c < VECTORS; c++) {
        if (VECTORS > 1) { if (m + c >= params.M) { break; } }
        for (var r = 0u; r < ROWS && row + r < params.N; r++) {
          y[(m + c) * params.y_stride + params.y_offset + row + r] = params.alpha * scale[c] * sums[c * ROWS + r];
        }
      }
    }
  }
}
