// rmsnorm.wgsl: y = x / sqrt(mean(x^2) + eps) * weight, row by row.
//
// One workgroup per row; sums in f32. Any cols. Grid: rows, folded into (x, y) beyond 65535.
// Replaces main, rmsnorm_small, rmsnorm_with_prenorm and rmsnorm_inplace_residual of the old rmsnorm.wgsl.

#import lane
#import reduce

override WORKGROUP_SIZE: u32 = 256;  // power of two
override SMALL_SIZE: bool = false;   // cols <= WORKGROUP_SIZE: one element a lane, read once
override CACHE_INPUT: bool = false;  // the row stays in workgroup memory between the two passes
override CACHE_SIZE: u32 = 2048;     // f32 words of it; cols <= CACHE_SIZE

struct Params {
  rows: u32,
  cols: u32,
  eps: f32,
  has_residual: u32,    // 0 none, 1 added after the norm, 2 before it
  output_prenorm: u32,  // 1: what the norm was taken of is written too
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<f32>;         // [cols]
@group(0) @binding(3) var<storage, read> residual: array<f32>;       // [rows, cols], unread if has_residual == 0
@group(0) @binding(4) var<storage, read_write> y: array<f32>;        // [rows, cols]
@group(0) @binding(5) var<storage, read_write> prenorm: array<f32>;  // [rows, cols], unwritten if output_prenorm == 0

var<workgroup> cache: array<f32, select(1, CACHE_SIZE, CACHE_INPUT)>;

// What the norm is taken of.
fn load_x(i: u32) -> f32 {
  if (params.has_residual == 2) { return x[i] + residual[i]; }
  return x[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.y * group.count.x + group.id.x;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  let base = row * params.cols;

  var v = 0.0;
  var sum = 0.0;
  for (var col = at.lane; col < params.cols; col += WORKGROUP_SIZE) {
    v = load_x(base + col);
    if (CACHE_INPUT) { cache[col] = v; }
    sum += v * v;
  }
  let scale = inverseSqrt(workgroup_sum(sum, at) / f32(params.cols) + params.eps);

  for (var col = at.lane; col < params.cols; col += WORKGROUP_SIZE) {
    let i = base + col;
    if (CACHE_INPUT) { v = cache[col]; } else if (!SMALL_SIZE) { v = load_x(i); }
    if (params.output_prenorm != 0) { prenorm[i] = v; }
    var out = v * scale * weight[col];
    if (params.has_residual == 1) { out += residual[i]; }
    y[i] = out;
  }
}
