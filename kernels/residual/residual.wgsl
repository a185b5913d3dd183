// residual.wgsl: y = a + scale * b, element by element, or in place: y = y + scale * b; b may be several, one behind the other.
//
// scale 0.0 means none: a + b. Any size. One element a lane, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Replaces main, add_inplace, add_vec4 and add_scaled of the old residual.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane

struct Params {
  size: u32,
  scale: f32,    // 0.0: 1.0
  inplace: u32,  // 1: y is read and written, a is not bound; 2: nor is y read, it becomes scale * b
  parts: u32,    // of b, which are added in their order
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;        // [size], unread if inplace
@group(0) @binding(2) var<storage, read> b: array<f32>;        // [parts, size]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [size]

fn load_a(i: u32) -> f32 {
  if (params.inplace == 2) { return 0; }
  if (params.inplace != 0) { return y[i]; }
  return a[i];
}

fn load_b(i: u32) -> f32 {
  var sum = b[i];
  for (var part = 1u; part < params.parts; part++) { sum += b[part * params.size + i]; }
  return sum;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let count = select(1u, 4u, USE_VEC4);
  let first = (group.id.y * group.count.x + group.id.x) * count * WORKGROUP_SIZE + at.lane;
  let scale = select(params.scale, 1.0, params.scale == 0.0);
  var sums = vec4f();
  for (var k = 0u; k < count; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) { sums[k] = load_a(i) + scale * load_b(i); }
  }
  for (var k = 0u; k < count; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) { y[i] = sums[k]; }
  }
}
