// layernorm.wgsl: y = (v - mean(v)) / sqrt(variance(v) + eps) * weight + bias, row by row, with v = x or x + residual.
//
// One workgroup per row, which stays in registers up to 16 * WORKGROUP_SIZE columns; the variance is of the deviations
// from the mean, in a pass of their own; sums in f32, of what the row has beyond its first element, so that equal
// elements deviate by nothing. Any cols. Grid: rows, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Beyond the plan: the mathematics of encoders of BERT's family forces it. Replaces nothing.

#import lane
#import reduce
#import columns

override WORKGROUP_SIZE: u32 = 256;  // power of two

const SMALL_SIZE = false;

struct Params {
  rows: u32,
  cols: u32,
  eps: f32,
  has_residual: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;         // [rows, cols]
@group(0) @binding(2) var<storage, read> weight: array<f32>;    // [cols]
@group(0) @binding(3) var<storage, read> bias: array<f32>;      // [cols]
@group(0) @binding(4) var<storage, read> residual: array<f32>;  // [rows, cols], unread if has_residual == 0
@group(0) @binding(5) var<storage, read_write> y: array<f32>;   // [rows, cols]

const F16_OUT = false;
fn put(i: u32, value: f32) { y[i] = value; }

// What the norm is taken of.
fn at_places(i: vec4u) -> vec4f {
  let v = vec4f(x[i.x], x[i.y], x[i.z], x[i.w]);
  if (params.has_residual == 0) { return v; }
  return v + vec4f(residual[i.x], residual[i.y], residual[i.z], residual[i.w]);
}

// Beyond the row's first element, in four columns of the lane's.
fn load(base: u32, start: u32, lane: u32) -> vec4f {
  if (start >= params.cols) { return vec4f(); }
  return at_places(base + bounded_columns(start, lane)) - at_places(vec4u(base));
}

// The values of four columns, without those beyond the row.
fn inside(v: vec4f, first: u32) -> vec4f { return select(vec4f(), v, columns(first) < vec4u(params.cols)); }

fn sum_of(v: array<vec4f, 4>, first: u32) -> f32 {
  return dot((inside(v[0], first) + inside(v[1], first + 4 * WORKGROUP_SIZE)) +
             (inside(v[2], first + 8 * WORKGROUP_SIZE) + inside(v[3], first + 12 * WORKGROUP_SIZE)), vec4f(1));
}

fn squares(v: vec4f, mean: f32, first: u32) -> f32 {
  let d = inside(v - mean, first);
  return dot(d, d);
}

fn squares_of(v: array<vec4f, 4>, mean: f32, first: u32) -> f32 {
  return (squares(v[0], mean, first) + squares(v[1], mean, first + 4 * WORKGROUP_SIZE)) +
         (squares(v[2], mean, first + 8 * WORKGROUP_SIZE) + squares(v[3], mean, first + 12 * WORKGROUP_SIZE));
}

fn normed(v: vec4f, mean: f32, scale: f32, start: u32, lane: u32) -> vec4f {
  if (start >= params.cols) { return vec4f(); }
  let i = bounded_columns(start, lane);
  return (v - mean) * scale * vec4f(weight[i.x], weight[i.y], weight[i.z], weight[i.w]) +
         vec4f(bias[i.x], bias[i.y], bias[i.z], bias[i.w]);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.y * group.count.x + group.id.x;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  let base = row * params.cols;
  let kept = params.cols <= 16 * WORKGROUP_SIZE;  // each loop below runs once

  var v = array<vec4f, 4>();
  var sum = 0.0;
  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    v = load_each(base, start, at.lane);
    sum += sum_of(v, start + at.lane);
  }
  let mean = workgroup_sum(sum, at) / f32(params.cols);

  var deviations = 0.0;
  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    if (!kept) { v = load_each(base, start, at.lane); }
    deviations += squares_of(v, mean, start + at.lane);
  }
  let scale = inverseSqrt(workgroup_sum(deviations, at) / f32(params.cols) + params.eps);

  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    if (!kept) { v = load_each(base, start, at.lane); }
    let out = array<vec4f, 4>(normed(v[0], mean, scale, start, at.lane),
                              normed(v[1], mean, scale, start + 4 * WORKGROUP_SIZE, at.lane),
                              normed(v[2], mean, scale, start + 8 * WORKGROUP_SIZE, at.lane),
                              normed(v[3], mean, scale, start + 12 * WORKGROUP_SIZE, at.lane));
    store_each(out, base, start, at.lane);  // all reads before the first write
  }
}
