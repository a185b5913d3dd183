// gate.wgsl: what a gated activation takes for an element of y = act(x) * up: x, and the up that act(x) gates.
//
// Without has_gate, up is 1. Needs: params.size (of y), dim (its columns), has_gate, gate_layout, inplace;
// bindings input, gate: array<vec4f>, y: array<f32>. With inplace, y takes the place of input.

const SEPARATE = 0;     // input: ups [rows, dim], or x without has_gate; gate: x [rows, dim]
const INTERLEAVED = 1;  // input: x, up, x, up, … [rows, 2 * dim]
const SPLIT = 2;        // input: all x, then all ups
const ROW_SPLIT = 3;    // input: rows of dim x, then dim ups

fn load(i: u32) -> f32 {
  if (params.inplace != 0) { return y[i]; }
  return input[i / 4][i % 4];
}

fn load4(i: u32) -> vec4f {
  if (params.inplace != 0) { return vec4f(y[i], y[i + 1], y[i + 2], y[i + 3]); }
  return input[i / 4];
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

fn gate_is_apart() -> bool { return params.has_gate != 0 && params.gate_layout == SEPARATE; }

// {x, up} of y[i].
fn operands(i: u32) -> vec2f {
  let place = places(i);
  var x = 0.0;
  if (gate_is_apart()) { x = gate[i / 4][i % 4]; } else { x = load(place.x); }
  var up = 1.0;
  if (params.has_gate != 0) { up = load(place.y); }
  return vec2f(x, up);
}

// {x, up} of y[i] to y[i + 3]; i and dim are multiples of 4.
fn operands4(i: u32) -> mat2x4f {
  let place = places(i);
  if (params.gate_layout == INTERLEAVED) {
    let low = load4(place.x);
    let high = load4(place.x + 4);
    return mat2x4f(vec4f(low.xz, high.xz), vec4f(low.yw, high.yw));
  }
  var x = vec4f(0);
  if (gate_is_apart()) { x = gate[i / 4]; } else { x = load4(place.x); }
  var up = vec4f(1);
  if (params.has_gate != 0) { up = load4(place.y); }
  return mat2x4f(x, up);
}

fn store4(i: u32, value: vec4f) {
  y[i] = value.x;
  y[i + 1] = value.y;
  y[i + 2] = value.z;
  y[i + 3] = value.w;
}
