// silu.wgsl: y = silu(x + bias), or silu(gate + bias) * up (SwiGLU), with silu(x) = x / (1 + exp(-x)).
//
// Any size and dim. One element of y a lane, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Replaces main, silu_bias, silu_gate, silu_gate_interleaved, silu_gate_split, silu_vec4, silu_gate_vec4,
// silu_inplace, silu_mul, silu_gate_rowsplit and silu_batched of the old silu.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // four elements a lane; one by one where dim is no multiple of 4

struct Params {
  size: u32,         // of y, a multiple of dim
  dim: u32,          // columns of y
  has_gate: u32,     // 1: y = silu(gate) * up, else y = silu(input)
  has_bias: u32,     // 1: bias[column] is added to what is activated
  gate_layout: u32,  // with has_gate, one of the four below (WGSL reserves the word `layout`)
  inplace: u32,      // 1: y takes the place of input, which is not bound; SEPARATE only
}

const SEPARATE = 0;     // input: ups [rows, dim]; gate: gates
const INTERLEAVED = 1;  // input: gate, up, gate, up, … [rows, 2 * dim]
const SPLIT = 2;        // input: all gates, then all ups
const ROW_SPLIT = 3;    // input: rows of dim gates, then dim ups

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4f>;  // [rows, dim] or, by layout, [rows, 2 * dim]
@group(0) @binding(2) var<storage, read> gate: array<vec4f>;   // [rows, dim], read if SEPARATE
@group(0) @binding(3) var<storage, read> bias: array<vec4f>;   // [dim], unread if has_bias == 0
@group(0) @binding(4) var<storage, read_write> y: array<f32>;  // [rows, dim]; not vec4f: lanes must not share one

// exp never sees a positive number: it can't overflow.
fn silu(x: vec4f) -> vec4f {
  let e = exp(-abs(x));
  return x * select(e, vec4f(1), x >= vec4f(0)) / (1 + e);
}

fn load(i: u32) -> f32 {
  if (params.inplace != 0) { return y[i]; }
  return input[i / 4][i % 4];
}

fn load4(i: u32) -> vec4f {
  if (params.inplace != 0) { return vec4f(y[i], y[i + 1], y[i + 2], y[i + 3]); }
  return input[i / 4];
}

// Where input holds what is activated for y[i] (x) and the up that it gates (y).
fn places(i: u32) -> vec2u {
  switch (params.gate_layout) {
    case INTERLEAVED: { return vec2u(2 * i, 2 * i + 1); }
    case SPLIT: { return vec2u(i, params.size + i); }
    case ROW_SPLIT: {
      let first = i + i / params.dim * params.dim;
      return vec2u(first, first + params.dim);
    }
    default: { return vec2u(i); }
  }
}

fn output(i: u32) -> f32 {
  let place = places(i);
  let separate = params.has_gate != 0 && params.gate_layout == SEPARATE;
  var x = 0.0;
  if (separate) { x = gate[i / 4][i % 4]; } else { x = load(place.x); }
  if (params.has_bias != 0) {
    let col = i % params.dim;
    x += bias[col / 4][col % 4];
  }
  var up = 1.0;
  if (params.has_gate != 0) { up = load(place.y); }
  return silu(vec4f(x)).x * up;
}

// The same for y[i] to y[i + 3]; i and dim are multiples of 4.
fn output4(i: u32) -> vec4f {
  let place = places(i);
  let separate = params.has_gate != 0 && params.gate_layout == SEPARATE;
  var x = vec4f(0);
  var up = vec4f(1);
  if (params.gate_layout == INTERLEAVED) {
    let low = load4(place.x);
    let high = load4(place.x + 4);
    x = vec4f(low.xz, high.xz);
    up = vec4f(low.yw, high.yw);
  } else {
    if (separate) { x = gate[i / 4]; } else { x = load4(place.x); }
    if (params.has_gate != 0) { up = load4(place.y); }
  }
  if (params.has_bias != 0) { x += bias[i % params.dim / 4]; }
  return silu(x) * up;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let lane = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let first = select(lane, 4 * lane, USE_VEC4);
  if (first >= params.size) { return; }
  if (!USE_VEC4) {
    y[first] = output(first);
  } else if (params.dim % 4 == 0) {
    let four = output4(first);
    y[first] = four.x;
    y[first + 1] = four.y;
    y[first + 2] = four.z;
    y[first + 3] = four.w;
  } else {
    for (var i = first; i < min(first + 4, params.size); i++) { y[i] = output(i); }
  }
}
