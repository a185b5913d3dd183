// gelu.wgsl: y = gelu(x), or gelu(gate) * up (GEGLU), with gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
//
// With erf, the function that this one approximates: x / 2 (1 + erf(x / sqrt(2))).
// Any size and dim, any finite x. One element of y a lane, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements of input; only the separate layout works in place.
// Replaces gelu, geglu and geglu_rowsplit of the old silu.wgsl.

#import lane
#import gate
#import activation

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane

struct Params {
  size: u32,         // of y, a multiple of dim
  dim: u32,          // columns of y
  has_gate: u32,     // 1: y = gelu(gate) * up, else y = gelu(input)
  gate_layout: u32,  // with has_gate, one of gate.wgsl (WGSL reserves the word `layout`)
  inplace: u32,      // 1: y takes the place of input, which is not bound; SEPARATE only
  erf: u32,          // 1: exactly, not by tanh
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;    // [rows, dim] or, by layout, [rows, 2 * dim]
@group(0) @binding(2) var<storage, read> gate: array<f32>;     // [rows, dim], read if SEPARATE
@group(0) @binding(3) var<storage, read_write> y: array<f32>;  // [rows, dim]

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let count = select(1u, 4u, USE_VEC4);
  let first = (group.id.y * group.count.x + group.id.x) * count * WORKGROUP_SIZE + at.lane;
  var x = vec4f();
  var up = vec4f();
  for (var k = 0u; k < count; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) {
      let e = operands(i);
      x[k] = e.x;
      up[k] = e.y;
    }
  }
  var values = gelu(x);
  if (params.erf != 0) { values = gelu_erf(x); }
  values *= up;
  for (var k = 0u; k < count; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < params.size) { y[i] = values[k]; }
  }
}
