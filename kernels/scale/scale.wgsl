// scale.wgsl: y = scale * x, element by element, or in place.
//
// Any size; four elements a lane. Grid: elements / 4 / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Replaces main and main_inplace of the old scale.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  size: u32,
  scale: f32,
  inplace: u32,  // 1: y is read and written, x is not bound
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;        // [size], unread if inplace
@group(0) @binding(2) var<storage, read_write> y: array<f32>;  // [size]

fn load(i: u32) -> f32 {
  if (params.inplace != 0) { return y[i]; }
  return x[i];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let first = (group.id.y * group.count.x + group.id.x) * 4 * WORKGROUP_SIZE + at.lane;
  var v = vec4f();
  for (var k = 0u; k < 4; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) { v[k] = params.scale * load(i); }
  }
  for (var k = 0u; k < 4; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) { y[i] = v[k]; }
  }
}
