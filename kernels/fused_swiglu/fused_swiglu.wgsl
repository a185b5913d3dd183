// fused_swiglu.wgsl: y = silu(gate + bias) * (up + bias), of rows gate | up and a bias as wide.
//
// Any sizes; four elements a lane, read as vectors where dim and bias_offset are multiples of 4.
// Grid: elements of y / 4 / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
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
@group(0) @binding(1) var<storage, read> input: array<vec4f>;    // [num_tokens, 2 * dim]: dim gates, then dim ups
@group(0) @binding(2) var<storage, read> bias: array<vec4f>;     // [bias_offset + 2 * dim]
@group(0) @binding(3) var<storage, read_write> y: array<vec4f>;  // [num_tokens, dim]

fn swiglu(g: vec4f, u: vec4f) -> vec4f {
  if (params.clamp_max == 0) { return silu(g) * u; }
  let most = vec4f(params.clamp_max);
  return silu(min(g, most)) * clamp(u, -most, most);
}

// A column, of 2 * dim, and its bias.
fn biased(row: u32, col: u32) -> f32 {
  let i = row * 2 * params.dim + col;
  let b = params.bias_offset + col;
  return input[i / 4][i % 4] + bias[b / 4][b % 4];
}
fn biased4(row: u32, col: u32) -> vec4f {
  return input[(row * 2 * params.dim + col) / 4] + bias[(params.bias_offset + col) / 4];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let lane = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let size = params.num_tokens * params.dim;
  let first = 4 * lane;
  if (first >= size) { return; }
  if ((params.dim | params.bias_offset) % 4 == 0) {
    let row = first / params.dim;
    let col = first % params.dim;
    y[lane] = swiglu(biased4(row, col), biased4(row, params.dim + col));
    return;
  }
  var g = vec4f();
  var u = vec4f();
  for (var j = 0u; j < min(4, size - first); j++) {
    let row = (first + j) / params.dim;
    let col = (first + j) % params.dim;
    g[j] = biased(row, col);
    u[j] = biased(row, params.dim + col);
  }
  var four = swiglu(g, u);
  if (size - first < 4) {  // what follows y stays
    four = select(y[lane], four, vec4u(0, 1, 2, 3) < vec4u(size - first));
  }
  y[lane] = four;
}
