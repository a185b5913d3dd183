// relu.wgsl: y = max(x, 0), or leaky: y = x where x > 0, else leaky_alpha * x; element by element, or in place.
//
// Any size. One element a lane, or four. Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Replaces relu and leaky_relu of the old silu.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane

struct Params {
  size: u32,
  leaky_alpha: f32,  // 0.0: ReLU
  inplace: u32,      // 1: y is read and written, x is not bound
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [size], unread if inplace
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [size]

fn relu(v: vec4f) -> vec4f {
  return select(params.leaky_alpha * v, v, v > vec4f(0));
}

fn load(i: u32) -> f32 {
  if (params.inplace != 0) { return y[i]; }
  return x[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let count = select(1u, 4u, USE_VEC4);
  let first = (group.id.y * group.count.x + group.id.x) * count * WORKGROUP_SIZE + at.lane;
  var v = vec4f();
  for (var k = 0u; k < count; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) { v[k] = load(i); }
  }
  let r = relu(v);
  for (var k = 0u; k < count; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) { y[i] = r[k]; }
  }
}
