// bias_add.wgsl: data[row, col] += bias[col], in place.
//
// Any sizes; four elements a lane. Grid: elements / 4 / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Replaces main of the old bias_add.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  num_tokens: u32,  // rows
  dim: u32,         // columns
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> bias: array<f32>;        // [dim]
@group(0) @binding(2) var<storage, read_write> data: array<f32>;  // [num_tokens, dim]

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let size = params.num_tokens * params.dim;
  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let first = (group.id.y * group.count.x + group.id.x) * 4 * WORKGROUP_SIZE + at.lane;
  var sums = vec4f();
  for (var k = 0u; k < 4; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < size) { sums[k] = data[i] + bias[i % params.dim]; }
  }
  for (var k = 0u; k < 4; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < size) { data[i] = sums[k]; }
  }
}
