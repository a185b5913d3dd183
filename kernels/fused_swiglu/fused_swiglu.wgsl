// fused_swiglu.wgsl: y = silu(gate + bias) * (up + bias), of rows gate | up and a bias as wide.
//
// Any sizes; four elements a lane.
// Grid: elements of y / 4 / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements of input and of bias.
// Replaces main of the old fused_swiglu.wgsl.

#import lane
#import activation

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  num_tokens: u32,
  dim: u32,          // columns of y
  bias_offset: u32,  // elements before the bias
  clamp_max: f32,    // 0: none; else, with their bias, gate <= clamp_max and |up| <= clamp_max
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;    // [num_tokens, 2 * dim]: dim gates, then dim ups
@group(0) @binding(2) var<storage, read> bias: array<f32>;     // [bias_offset + 2 * dim]
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [num_tokens, dim]

fn swiglu(g: vec4f, u: vec4f) -> vec4f {
  if (params.clamp_max == 0) { return silu(g) * u; }
  let most = vec4f(params.clamp_max);
  return silu(min(g, most)) * clamp(u, -most, most);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let size = params.num_tokens * params.dim;
  let first = (group.id.y * group.count.x + group.id.x) * 4 * WORKGROUP_SIZE + at.lane;
  var g = vec4f();
  var u = vec4f();
  for (var k = 0u; k < 4; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < size) {
      let before = i / params.dim * params.dim;  // elements of the rows before
      let b = params.bias_offset + i - before;
      g[k] = input[i + before] + bias[b];
      u[k] = input[i + before + params.dim] + bias[b + params.dim];
    }
  }
  let values = swiglu(g, u);
  for (var k = 0u; k < 4; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < size) { y[i] = values[k]; }
  }
}
