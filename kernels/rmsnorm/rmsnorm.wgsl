// rmsnorm.wgsl: y = x / sqrt(mean(x^2) + eps) * weight, row by row.
//
// One workgroup per row, sixteen elements a lane at a time; sums in f32. Any cols. Grid: rows, folded into (x, y)
// beyond 65535.
// Limits: SMALL_SIZE takes up to WORKGROUP_SIZE columns, CACHE_INPUT 16 times as many; F16_OUT an even number, and no SMALL_SIZE. What is
// beyond f16's range becomes +-65504.
// Replaces main, rmsnorm_small, rmsnorm_with_prenorm and rmsnorm_inplace_residual of the old rmsnorm.wgsl.

#import lane
#import reduce
#import columns
#import half

override WORKGROUP_SIZE: u32 = 256;  // power of two
override SMALL_SIZE: bool = false;   // cols <= WORKGROUP_SIZE: one element a lane, read once
override CACHE_INPUT: bool = false;  // cols <= 16 * WORKGROUP_SIZE: the row stays in registers between the two passes
override F16_OUT: bool = false;      // y is f16, two a word

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
@group(0) @binding(4) var<storage, read_write> y: array<u32>;        // [rows, cols] f32, or f16
@group(0) @binding(5) var<storage, read_write> prenorm: array<f32>;  // [rows, cols], unwritten if output_prenorm == 0

fn put(i: u32, value: f32) { y[i] = bitcast<u32>(value); }

fn x_at(i: vec4u) -> vec4f {
  if (SMALL_SIZE) { return vec4f(x[i.x], 0, 0, 0); }
  return vec4f(x[i.x], x[i.y], x[i.z], x[i.w]);
}

fn weight_at(i: vec4u) -> vec4f {
  if (SMALL_SIZE) { return vec4f(weight[i.x], 0, 0, 0); }
  return vec4f(weight[i.x], weight[i.y], weight[i.z], weight[i.w]);
}

fn residual_at(i: vec4u) -> vec4f {
  if (SMALL_SIZE) { return vec4f(residual[i.x], 0, 0, 0); }
  return vec4f(residual[i.x], residual[i.y], residual[i.z], residual[i.w]);
}

// What the norm is taken of, in four columns of the lane's.
fn load(base: u32, start: u32, lane: u32) -> vec4f {
  if (start >= params.cols) { return vec4f(); }
  let i = base + bounded_columns(start, lane);
  if (params.has_residual == 2) { return x_at(i) + residual_at(i); }
  return x_at(i);
}

fn squares(v: vec4f, first: u32) -> f32 {
  let w = select(vec4f(), v, columns(first) < vec4u(params.cols));
  return dot(w, w);
}

fn normed(v: vec4f, scale: f32, base: u32, start: u32, lane: u32) -> vec4f {
  if (start >= params.cols) { return vec4f(); }
  let col = bounded_columns(start, lane);
  let out = v * scale * weight_at(col);
  if (params.has_residual == 1) { return out + residual_at(base + col); }
  return out;
}

fn store_prenorm(v: vec4f, base: u32, start: u32, lane: u32) {
  if (start >= params.cols) { return; }
  let col = columns(start + lane);
  if (col.x < params.cols) { prenorm[base + col.x] = v.x; }
  if (SMALL_SIZE) { return; }
  if (col.y < params.cols) { prenorm[base + col.y] = v.y; }
  if (col.z < params.cols) { prenorm[base + col.z] = v.z; }
  if (col.w < params.cols) { prenorm[base + col.w] = v.w; }
}

fn store_halves(v: vec4f, base: u32, start: u32, lane: u32) {
  if (start >= params.cols) { return; }
  let col = columns(start + lane);
  let words = pack_halves(to_half_or_nan(bitcast<vec4u>(v)));
  if (col.x < params.cols) { y[(base + col.x) / 2] = words.x; }
  if (col.z < params.cols) { y[(base + col.z) / 2] = words.y; }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.y * group.count.x + group.id.x;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  let base = row * params.cols;
  let lane = select(at.lane, 2 * at.lane, F16_OUT);

  // Lanes take four columns, a workgroup apart, four times: loads enough in flight, with constant indices.
  var v = array<vec4f, 4>();
  var sum = 0.0;
  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    v = load_each(base, start, lane);
    let first = start + lane;
    sum += (squares(v[0], first) + squares(v[1], first + 4 * WORKGROUP_SIZE)) +
           (squares(v[2], first + 8 * WORKGROUP_SIZE) + squares(v[3], first + 12 * WORKGROUP_SIZE));
  }
  let scale = inverseSqrt(workgroup_sum(sum, at) / f32(params.cols) + params.eps);

  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    if (!CACHE_INPUT) {
      if (!SMALL_SIZE) { v = load_each(base, start, lane); }
    }
    let second = start + 4 * WORKGROUP_SIZE;
    let third = start + 8 * WORKGROUP_SIZE;
    let fourth = start + 12 * WORKGROUP_SIZE;
    if (params.output_prenorm != 0) {
      store_prenorm(v[0], base, start, lane);
      store_prenorm(v[1], base, second, lane);
      store_prenorm(v[2], base, third, lane);
      store_prenorm(v[3], base, fourth, lane);
    }
    let out = array<vec4f, 4>(normed(v[0], scale, base, start, lane), normed(v[1], scale, base, second, lane),
                              normed(v[2], scale, base, third, lane), normed(v[3], scale, base, fourth, lane));
    // All reads before the first write.
    if (F16_OUT) {
      store_halves(out[0], base, start, lane);
      store_halves(out[1], base, second, lane);
      store_halves(out[2], base, third, lane);
      store_halves(out[3], base, fourth, lane);
    } else {
      store_each(out, base, start, lane);
    }
  }
}
