// gelu.wgsl: y = gelu(x), or gelu(gate) * up (GEGLU), with gelu(x) = x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).
//
// With erf, the function that this one approximates: x / 2 (1 + erf(x / sqrt(2))).
// Any size and dim, any finite x. One element of y a lane, two of f16, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements of input; only the separate layout works in place, of f32; of f16 rows are even, and what is beyond its range
// becomes +-65504.
// Replaces gelu, geglu and geglu_rowsplit of the old silu.wgsl.

#import lane
#import gate
#import activation
#import half

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane
override F16_OUT: bool = false;   // y is f16, two a word, of which a lane has two or four

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
@group(0) @binding(3) var<storage, read_write> y: array<u32>;  // [rows, dim] f32, or f16

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let first = lane_first(group, at);  // all reads before the first write
  var x = vec4f();
  var up = vec4f();
  for (var k = 0u; k < lane_count(); k++) {
    let i = first + place(k);
    if (i < params.size) {
      let e = operands(i);
      x[k] = e.x;
      up[k] = e.y;
    }
  }
  var values = gelu(x);
  if (params.erf != 0) { values = gelu_erf(x); }
  values *= up;
  store_lane(first, values);
}
