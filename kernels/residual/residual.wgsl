// residual.wgsl: y = a + scale * b, element by element, or in place: y = y + scale * b.
//
// scale 0.0 means none: a + b. Any size. One element a lane, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Replaces main, add_inplace, add_vec4 and add_scaled of the old residual.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane, loaded at once

struct Params {
  size: u32,
  scale: f32,    // 0.0: 1.0
  inplace: u32,  // 1: y is read and written, a is not bound
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;      // [size], unread if inplace; may end in padding
@group(0) @binding(2) var<storage, read> b: array<vec4f>;      // [size]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [size]; not vec4f: lanes must not share one

fn load_a(i: u32) -> f32 {
  if (params.inplace != 0) { return y[i]; }
  return a[i / 4][i % 4];
}

fn load_a4(i: u32) -> vec4f {
  if (params.inplace != 0) { return vec4f(y[i], y[i + 1], y[i + 2], y[i + 3]); }
  return a[i / 4];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let lane = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let scale = select(params.scale, 1.0, params.scale == 0.0);
  if (!USE_VEC4) {
    if (lane < params.size) { y[lane] = load_a(lane) + scale * b[lane / 4][lane % 4]; }
    return;
  }
  let first = 4 * lane;
  if (first + 4 <= params.size) {
    let sum = load_a4(first) + scale * b[lane];
    y[first] = sum.x;
    y[first + 1] = sum.y;
    y[first + 2] = sum.z;
    y[first + 3] = sum.w;
  } else {
    for (var i = first; i < params.size; i++) { y[i] = load_a(i) + scale * b[i / 4][i % 4]; }
  }
}
