// softmax.wgsl: y = softmax(x / temperature), row by row.
//
// A row of which no element exceeds -3.0e38, fully masked, gives zeros. Any cols, any finite x.
// One workgroup per row; sums in f32. Grid: rows, folded into (x, y) beyond 65535.
// Replaces main, softmax_small, softmax_online and softmax_inplace of the old softmax.wgsl.

#import lane
#import reduce
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

fn load(i: u32) -> f32 {
  if (params.inplace != 0) { return y[i]; }
  return x[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.y * group.count.x + group.id.x;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  let base = row * params.cols;

  var v = 0.0;
  var top = LOWEST;
  var sum = 0.0;
  for (var col = at.lane; col < params.cols; col += WORKGROUP_SIZE) {
    v = load(base + col);
    if (!ONLINE) {
      top = max(top, v);
    } else if (v > top) {
      sum = sum * weight(top, v) + 1.0;
      top = v;
    } else {
      sum += weight(v, top);
    }
  }
  let row_top = workgroup_max(top, at);

  var e = 0.0;
  if (ONLINE) {
    sum *= weight(top, row_top);
  } else {
    for (var col = at.lane; col < params.cols; col += WORKGROUP_SIZE) {
      if (!SMALL_SIZE) { v = load(base + col); }
      e = weight(v, row_top);
      sum += e;
    }
  }
  let row_sum = workgroup_sum(sum, at);

  var scale = 0.0;
  if (row_top > MASKED && row_sum > 0.0) { scale = 1.0 / row_sum; }
  for (var col = at.lane; col < params.cols; col += WORKGROUP_SIZE) {
    if (!SMALL_SIZE) { e = weight(load(base + col), row_top); }
    y[base + col] = e * scale;
  }
}
