// silu.wgsl: y = silu(x + bias), or silu(gate + bias) * up (SwiGLU), with silu(x) = x / (1 + exp(-x)).
//
// Any size and dim. One element of y a lane, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Replaces main, silu_bias, silu_gate, silu_gate_interleaved, silu_gate_split, silu_vec4, silu_gate_vec4,
// silu_inplace, silu_mul, silu_gate_rowsplit and silu_batched of the old silu.wgsl.

#import lane
#import gate
#import activation

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane; one by one where dim is no multiple of 4

struct Params {
  size: u32,         // of y, a multiple of dim
  dim: u32,          // columns of y
  has_gate: u32,     // 1: y = silu(gate) * up, else y = silu(input)
  has_bias: u32,     // 1: bias[column] is added to what is activated
  gate_layout: u32,  // with has_gate, one of gate.wgsl (WGSL reserves the word `layout`)
  inplace: u32,      // 1: y takes the place of input, which is not bound; SEPARATE only
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4f>;  // [rows, dim] or, by layout, [rows, 2 * dim]
@group(0) @binding(2) var<storage, read> gate: array<vec4f>;   // [rows, dim], read if SEPARATE
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;   // [dim], unread if has_bias == 0
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [rows, dim]; not vec4f: lanes must not share one

fn output(i: u32) -> f32 {
  var e = operands(i);
  if (params.has_bias != 0) {
    let col = i % params.dim;
    e.x += bias[col / 4][col % 4];
  }
  return silu(vec4f(e.x)).x * e.y;
}

// y[i] to y[i + 3]; i and dim are multiples of 4.
fn output4(i: u32) -> vec4f {
  var e = operands4(i);
  if (params.has_bias != 0) { e[0] += bias[i % params.dim / 4]; }
  return silu(e[0]) * e[1];
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let lane = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let first = select(lane, 4 * lane, USE_VEC4);
  if (first >= params.size) { return; }
  if (!USE_VEC4) {
    y[first] = output(first);
  } else if (params.dim % 4 == 0) {
    store4(first, output4(first));
  } else {
    for (var i = first; i < min(first + 4, params.size); i++) { y[i] = output(i); }
  }
}
