// fused_ffn.wgsl: y = alpha * act(G x) * (U x), the gated half of a feed-forward layer, for packed weights.
//
// G and U are one packed tensor of 2 N rows, gate and up in turn, so that a team of lanes reads both side by side
// (shared/gemv.wgsl; ROWS is even). x may be normalised on the way in.
// Grid: (groups, rows of x / VECTORS); groups walk the rest of the weights in strides.
// A mixture of experts has such a tensor each, one behind the other, and a row of x goes to one of them (matmul_gemv).
// Limits: 65,535 rows of x, several only with BATCHED and a multiple of 4 apart; as USE_SUBGROUPS in matmul_gemv.
// Replaces main, main_multi, main_f16 and main_batched of the old fused_ffn.wgsl.

#import lane
#import known_lanes
#import reduce
#import left_sums
#import blocks
#import int16
#import gemv
#import activation

override WORKGROUP_SIZE: u32 = 256;       // power of two
override MULTI_OUTPUT: bool = false;      // several outputs a workgroup: a team is a subgroup or TEAM lanes, not all lanes
override USE_SUBGROUPS: bool = true;      // with MULTI_OUTPUT: a team is a subgroup, unless TEAM is 1
override BATCHED: bool = false;           // several rows of x, group.id.y's VECTORS; const VECTORS: u32, of the prelude, is 1 without
override F16_WEIGHTS: bool = false;       // the weights are f16; WEIGHT_TYPE stays 0
override WEIGHT_TYPE: u32 = 0;            // shared/blocks.wgsl
override NORM_INPUT: bool = false;        // x is taken as x / rms(x) * norm
override INT16_ACTIVATIONS: bool = false; // x is rounded to 16-bit integers (shared/int16.wgsl); not for float weights
override CHUNK: u32 = 32;                 // blocks of 32 of x in workgroup memory at a time
override TEAM: u32 = 8;                   // lanes a team otherwise, a power of two; 1 with USE_SUBGROUPS: they share what they read of x
override ROW_TILE: u32 = 1;               // of W: kernels/weight.hpp
override SPLIT: u32 = 1;                  // subgroups a team, as many of the workgroup as there are at most; a power of two
override UNROLL: u32 = 0;                 // pairs of blocks of a row, or pieces of 16 bytes, that a lane reads at once; 0: one block or piece

struct Params {
  M: u32,                  // rows of x
  hidden_size: u32,        // columns of the weights
  intermediate_size: u32,  // N: outputs a row, of the weights that one binding holds
  alpha: f32,
  activation: u32,         // 0 SiLU, 1 GELU (tanh form)
  clamp_max: f32,          // 0: none; else gate <= clamp_max, |up| <= clamp_max
  eps: f32,                // of the norm
  row_blocks: u32,         // blocks a row of the weights
  x_stride: u32,           // elements from row to row of x, a multiple of 4
  y_stride: u32,           // elements from row to row of y
  y_offset: u32,           // where a row's first result goes
  num_experts: u32,        // 0: one tensor; else that of experts first_expert on: row m of x meets experts[m]'s,
  first_expert: u32,       // and y's row stays as it is where that is not among them
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;       // [M, x_stride] f32
@group(0) @binding(2) var<storage, read> quants: array<vec4u>;  // gate and up rows in turn, packed
@group(0) @binding(3) var<storage, read> scales: array<u32>;    // the same
@group(0) @binding(4) var<storage, read> norm: array<vec4f>;     // [hidden_size], with NORM_INPUT
@group(0) @binding(5) var<storage, read_write> y: array<f32>;   // [M, y_stride]
@group(0) @binding(6) var<storage, read> experts: array<u32>;   // [M], with num_experts

const PARTS = false;
fn parts_half(i: u32) -> Sixteen { return Sixteen(); }
fn norm4(i: u32) -> vec4f { return norm[i]; }
fn quant(i: u32) -> vec4u { return quants[i]; }
fn scale_word(i: u32) -> u32 { return scales[i]; }
fn x4(i: u32) -> vec4f { return x[i]; }
fn weight_type() -> u32 { return select(WEIGHT_TYPE, F16, F16_WEIGHTS); }
fn team_lanes() -> u32 { return select(WORKGROUP_SIZE, select(TEAM, 0, USE_SUBGROUPS & (TEAM != 1)), MULTI_OUTPUT); }

fn activate(v: f32) -> f32 {
  if (params.activation == 0) { return silu(vec4f(v)).x; }
  return gelu(vec4f(v)).x;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  var m = 0u;
  if (BATCHED) { m = group.id.y * VECTORS; }
  let vectors = Vectors(params.hidden_size, params.row_blocks, m * params.x_stride, params.x_stride, params.M - m, params.eps);
  let team = team_of(at);
  let scale = prepare(vectors, at);
  let rows = team_count(at) * ROWS;
  let all = 2 * params.intermediate_size;
  var first = 0u;  // row of the weights
  if (params.num_experts != 0) {
    let expert = experts[m] - params.first_expert;  // of those before it wraps
    if (expert >= params.num_experts) { return; }
    first = expert * all;
  }
  for (var base = group.id.x * rows; base < all; base += group.count.x * rows) {
    let row = base + team.index * ROWS;
    let sums = gemv(vectors, first + row, first + all, team, at);
    if (team.lane == 0) {
      for (var c = 0u; c < VECTORS; c++) {
        if (VECTORS > 1) { if (m + c >= params.M) { break; } }
        for (var r = 0u; r < ROWS && row + r < all; r += 2) {
          var gate = scale[c] * sums[c * ROWS + r];
          var up = scale[c] * sums[c * ROWS + r + 1];
          if (params.clamp_max > 0) {
            gate = min(gate, params.clamp_max);
            up = clamp(up, -params.clamp_max, params.clamp_max);
          }
          y[(m + c) * params.y_stride + params.y_offset + (row + r) / 2] = params.alpha * activate(gate) * up;
        }
      }
    }
  }
}
