// softmax_log.wgsl: y = log(softmax(x / temperature)), row by row: (x - max) / temperature - log(sum).
//
// x at or below -3.0e38 is masked: it counts nothing and gives -3.4e38, which is masked again; so does what
// would lie below -3.4e38. Any cols, any finite x.
// One workgroup per row; sums in f32. Grid: rows, folded into (x, y) beyond 65535.
// Replaces log_softmax of the old softmax.wgsl.

#import lane
#import reduce
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

const LOG_ZERO = -3.4e38;

fn load(i: u32) -> f32 {
  if (params.inplace != 0) { return y[i]; }
  return x[i];
}

// (value - top) / temperature, at least LOG_ZERO; value <= top. Halved and bounded as in weight().
fn shifted(value: f32, top: f32) -> f32 {
  let t = 0.5 * params.temperature;
  return max(0.5 * value - 0.5 * top, LOG_ZERO * min(t, 1.0)) / t;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.y * group.count.x + group.id.x;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  let base = row * params.cols;

  var top = LOWEST;
  var sum = 0.0;
  for (var col = at.lane; col < params.cols; col += WORKGROUP_SIZE) {
    let v = load(base + col);
    if (v > top) {
      sum *= weight(top, v);
      top = v;
    }
    if (v > MASKED) { sum += weight(v, top); }
  }
  let row_top = workgroup_max(top, at);
  let log_sum = log(workgroup_sum(sum * weight(top, row_top), at));  // at least 0, unless all is masked

  for (var col = at.lane; col < params.cols; col += WORKGROUP_SIZE) {
    let v = load(base + col);
    var log_p = LOG_ZERO;
    if (v > MASKED) { log_p = max(shifted(v, row_top) - log_sum, LOG_ZERO); }
    y[base + col] = log_p;
  }
}
