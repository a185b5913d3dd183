// scale.wgsl: y = scale * x, element by element, or in place.
//
// One element a lane. Grid: elements / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
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

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  if (i >= params.size) { return; }
  if (params.inplace != 0) { y[i] *= params.scale; } else { y[i] = x[i] * params.scale; }
}
