// softmax_log.wgsl: y = log(softmax(x / temperature)), row by row: (x - max) / temperature - log(sum).
//
// x at or below -3.0e38 is masked: it counts nothing and gives -3.4e38, which is masked again; so does what
// would lie below -3.4e38. Any cols, any finite x.
// One workgroup per row, which stays in registers up to 16 * WORKGROUP_SIZE columns; sums in f32.
// Grid: rows, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements, temperature 1e-30 to 1e30.
// Replaces log_softmax of the old softmax.wgsl.

#import lane
#import reduce
#import columns
#import tempered

override WORKGROUP_SIZE: u32 = 256;  // power of two

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

const LOG_ZERO = -3.4e38;
const SMALL_SIZE = false;  // columns.wgsl

fn part(v: vec4f, top: f32, start: u32) -> vec4f {
  if (start >= params.cols) { return vec4f(); }
  return select(vec4f(), weights(v, top), v > vec4f(MASKED));
}

// (v - top) / temperature - log_sum, at least LOG_ZERO; v <= top. Halved and bounded as in weight().
fn log_p(v: vec4f, top: f32, log_sum: f32) -> vec4f {
  let t = 0.5 * params.temperature;
  let shifted = max(0.5 * v - 0.5 * top, vec4f(LOG_ZERO * min(t, 1.0))) * (1.0 / t);
  return select(vec4f(LOG_ZERO), max(shifted - log_sum, vec4f(LOG_ZERO)), v > vec4f(MASKED));
}

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
    let e = (part(v[0], next, start) + part(v[1], next, start + 4 * WORKGROUP_SIZE)) +
            (part(v[2], next, start + 8 * WORKGROUP_SIZE) + part(v[3], next, start + 12 * WORKGROUP_SIZE));
    sum = sum * weight(top, next) + dot(e, vec4f(1));
    top = next;
  }
  let row_top = workgroup_max(top, at);
  let log_sum = log(workgroup_sum(sum * weight(top, row_top), at));  // at least 0, unless all is masked

  for (var start = 0u; start < params.cols; start += 16 * WORKGROUP_SIZE) {
    if (!kept) { v = load_inside(base, start, at.lane); }
    store(log_p(v[0], row_top, log_sum), base, start, at.lane);
    store(log_p(v[1], row_top, log_sum), base, start + 4 * WORKGROUP_SIZE, at.lane);
    store(log_p(v[2], row_top, log_sum), base, start + 8 * WORKGROUP_SIZE, at.lane);
    store(log_p(v[3], row_top, log_sum), base, start + 12 * WORKGROUP_SIZE, at.lane);
  }
}
