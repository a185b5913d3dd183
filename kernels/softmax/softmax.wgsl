// softmax.wgsl: y = softmax(x / temperature), row by row.
//
// A row of which no element exceeds -3.0e38, fully masked, gives zeros. Any cols, any finite x.
// One workgroup per row, which stays in registers up to 16 * WORKGROUP_SIZE columns; sums in f32.
// Grid: rows, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements, temperature 1e-30 to 1e30; SMALL_SIZE takes up to WORKGROUP_SIZE columns.
// Replaces main, softmax_small, softmax_online and softmax_inplace of the old softmax.wgsl.

#import lane
#import reduce
#import columns
#import tempered

override WORKGROUP_SIZE: u32 = 256;  // power of two
override SMALL_SIZE: bool = false;   // cols <= WORKGROUP_SIZE: one element a lane, read once
override ONLINE: bool = false;       // maximum and sum in one pass over x, else in two

struct Params {
  rows: u32,
  cols: u32,
  temperature: f32,  // 1e-30 to 1e30
  inplace: u32,      // 1: y is read and written, x is not bound
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [rows, cols], unread if inplace
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [rows, cols]

const F16_OUT = false;
fn put(i: u32, value: f32) { y[i] = value; }

fn part(v: vec4f, top: f32, start: u32) -> vec4f {
  if (start >= params.cols) { return vec4f(); }
  if (SMALL_SIZE) { return vec4f(weight(v.x, top), vec3f()); }
  return weights(v, top);
}

fn parts(v: array<vec4f, 4>, top: f32, start: u32) -> array<vec4f, 4> {
  return array<vec4f, 4>(part(v[0], top, start), part(v[1], top, start + 4 * WORKGROUP_SIZE),
                         part(v[2], top, start + 8 * WORKGROUP_SIZE), part(v[3], top, start + 12 * WORKGROUP_SIZE));
}

fn total(e: array<vec4f, 4>) -> f32 { return dot((e[0] + e[1]) + (e[2] + e[3]), vec4f(1)); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.y * group.count.x + group.id.x;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  let base = row * params.cols;
  let kept = params.cols <= 16 * WORKGROUP_SIZE;  // each loop below runs once

  var v = array<vec4f, 4>();
  var top = LOWEST;
  var sum = 0.0;
  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    v = load_inside(base, start, at.lane);
    let next = max(top, highest(v));
    if (ONLINE) { sum = sum * weight(top, next) + total(parts(v, next, start)); }
    top = next;
  }
  let row_top = workgroup_max(top, at);

  if (ONLINE) {
    sum *= weight(top, row_top);
  } else {
    for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
      if (!kept) { v = load_inside(base, start, at.lane); }
      v = parts(v, row_top, start);
      sum += total(v);
    }
  }
  let row_sum = workgroup_sum(sum, at);

  var scale = 0.0;
  if (row_top > MASKED && row_sum > 0.0) { scale = 1.0 / row_sum; }
  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    if (!kept) { v = load_inside(base, start, at.lane); }
    if (ONLINE | !kept) { v = parts(v, row_top, start); }
    store(v[0] * scale, base, start, at.lane);
    store(v[1] * scale, base, start + 4 * WORKGROUP_SIZE, at.lane);
    store(v[2] * scale, base, start + 8 * WORKGROUP_SIZE, at.lane);
    store(v[3] * scale, base, start + 12 * WORKGROUP_SIZE, at.lane);
  }
}
