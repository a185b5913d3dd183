// gate.wgsl: what a gated activation takes for an element of y = act(x) * up: x, and the up that act(x) gates; and which elements a lane has.
//
// Without has_gate, up is 1. Needs: params.size (of y), dim (its columns), has_gate, gate_layout, inplace;
// bindings input and gate: array<f32>, y: array<u32>;
// #import lane, half; override WORKGROUP_SIZE, USE_VEC4, F16_OUT. With inplace, y takes the place of input, f32 as it.

const SEPARATE = 0;     // input: ups [rows, dim], or x without has_gate; gate: x [rows, dim]
const INTERLEAVED = 1;  // input: x, up, x, up, … [rows, 2 * dim]
const SPLIT = 2;        // input: all x, then all ups
const ROW_SPLIT = 3;    // input: rows of dim x, then dim ups

fn load(i: u32) -> f32 {
  if (params.inplace != 0) { return bitcast<f32>(y[i]); }
  return input[i];
}

// Where input holds x and up of y[i].
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

// {x, up} of y[i].
fn operands(i: u32) -> vec2f {
  let place = places(i);
  var x = 0.0;
  if (params.has_gate != 0 && params.gate_layout == SEPARATE) { x = gate[i]; } else { x = load(place.x); }
  var up = 1.0;
  if (params.has_gate != 0) { up = load(place.y); }
  return vec2f(x, up);
}

// A lane's elements: how many, the first, and the k-th from there. A workgroup apart, or pairs of neighbours, so that lanes read and write
// side by side.
fn lane_count() -> u32 { return select(select(1u, 2u, F16_OUT), 4u, USE_VEC4); }
fn lane_first(group: Group, at: Lane) -> u32 {
  return (group.id.y * group.count.x + group.id.x) * lane_count() * WORKGROUP_SIZE + select(at.lane, 2 * at.lane, F16_OUT);
}
fn place(k: u32) -> u32 {
  if (F16_OUT) { return (k & 1) + (k >> 1) * 2 * WORKGROUP_SIZE; }
  return k * WORKGROUP_SIZE;
}

fn store_lane(first: u32, values: vec4f) {
  if (F16_OUT) {
    let words = pack_halves(to_half_or_nan(bitcast<vec4u>(values)));
    if (first < params.size) { y[first / 2] = words.x; }
    if (USE_VEC4) {
      let i = first + place(2);
      if (i < params.size) { y[i / 2] = words.y; }
    }
    return;
  }
  for (var k = 0u; k < lane_count(); k++) {
    let i = first + place(k);
    if (i < params.size) { y[i] = bitcast<u32>(values[k]); }
  }
}
