// silu.wgsl: y = silu(x + bias), or silu(gate + bias) * up (SwiGLU), with silu(x) = x / (1 + exp(-x)).
//
// Any size and dim. One element of y a lane, two of f16, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements of input; only the separate layout works in place, of f32; of f16 rows are even, and what is beyond its range
// becomes +-65504.
// Replaces main, silu_bias, silu_gate, silu_gate_interleaved, silu_gate_split, silu_vec4, silu_gate_vec4,
// silu_inplace, silu_mul, silu_gate_rowsplit and silu_batched of the old silu.wgsl.

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
  has_gate: u32,     // 1: y = silu(gate) * up, else y = silu(input)
  has_bias: u32,     // 1: bias[column] is added to what is activated
  gate_layout: u32,  // with has_gate, one of gate.wgsl (WGSL reserves the word `layout`)
  inplace: u32,      // 1: y takes the place of input, which is not bound; SEPARATE only
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<f32>;    // [rows, dim] or, by layout, [rows, 2 * dim]
@group(0) @binding(2) var<storage, read> gate: array<f32>;     // [rows, dim], read if SEPARATE
@group(0) @binding(3) var<storage, read> bias: array<f32>;     // [dim], unread if has_bias == 0
@group(0) @binding(4) var<storage, read_write> y: array<u32>;  // [rows, dim] f32, or f16

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
      if (params.has_bias != 0) { x[k] += bias[i % params.dim]; }
    }
  }
  let values = silu(x) * up;
  store_lane(first, values);
}
