// relu.wgsl: y = max(x, 0), or leaky: y = x where x > 0, else leaky_alpha * x; element by element, or in place.
//
// Any size. One element a lane, or four. Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Replaces relu and leaky_relu of the old silu.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane, loaded at once

struct Params {
  size: u32,
  leaky_alpha: f32,  // 0.0: ReLU
  inplace: u32,      // 1: y is read and written, x is not bound
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4f>;      // [size], unread if inplace; may end in padding
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [size]; not vec4f: lanes must not share one

fn relu(v: vec4f) -> vec4f {
  return select(params.leaky_alpha * v, v, v > vec4f(0));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let lane = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let first = select(lane, 4 * lane, USE_VEC4);
  if (USE_VEC4 && params.inplace == 0 && first + 4 <= params.size) {
    let r = relu(x[lane]);
    y[first] = r.x;
    y[first + 1] = r.y;
    y[first + 2] = r.z;
    y[first + 3] = r.w;
    return;
  }
  for (var i = first; i < min(first + select(1u, 4u, USE_VEC4), params.size); i++) {
    var v = 0.0;
    if (params.inplace != 0) { v = y[i]; } else { v = x[i / 4][i % 4]; }
    y[i] = relu(vec4f(v)).x;
  }
}
