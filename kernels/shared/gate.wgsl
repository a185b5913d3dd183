// gate.wgsl: what a gated activation takes for an element of y = act(x) * up: x, and the up that act(x) gates.
//
// Without has_gate, up is 1. Needs: params.size (of y), dim (its columns), has_gate, gate_layout, inplace;
// bindings input and gate: array<f32>, y: array<u32>. With inplace, y takes the place of input, f32 as it.

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
