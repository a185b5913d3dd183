// tempered.wgsl: rows of logits, and exponentials of them over a temperature, for softmax.
//
// Needs: #import columns and what that needs; x: array<f32>; params.inplace; params.temperature, 1e-30 to 1e30.
const LOWEST = -0x1.fffffep127f;
const MASKED = -3.0e38;  // at or below: not there

// exp((value - top) / temperature), value <= top. Halved, since the difference of two floats may overflow;
// bounded before the scaling for the same reason, where exp is 0 anyway.
fn weight(value: f32, top: f32) -> f32 {
  let t = 0.5 * params.temperature;
  return exp(max(0.5 * value - 0.5 * top, -200.0 * t) * (1.0 / t));
}

fn weights(values: vec4f, top: f32) -> vec4f {
  let t = 0.5 * params.temperature;
  return exp(max(0.5 * values - 0.5 * top, vec4f(-200.0 * t)) * (1.0 / t));
}

fn load(base: u32, start: u32, lane: u32) -> vec4f {
  if (start >= params.cols) { return vec4f(LOWEST); }
  let i = base + bounded_columns(start, lane);
  if (SMALL_SIZE) {
    if (params.inplace != 0) { return vec4f(y[i.x], vec3f(LOWEST)); }
    return vec4f(x[i.x], vec3f(LOWEST));
  }
  if (params.inplace != 0) { return vec4f(y[i.x], y[i.y], y[i.z], y[i.w]); }
  return vec4f(x[i.x], x[i.y], x[i.z], x[i.w]);
}

// What lies beyond the row weighs nothing.
fn inside(v: vec4f, first: u32) -> vec4f { return select(vec4f(LOWEST), v, columns(first) < vec4u(params.cols)); }

// Four times four columns of a lane, those beyond the row weighing nothing.
fn load_inside(base: u32, start: u32, lane: u32) -> array<vec4f, 4> {
  let v = load_each(base, start, lane);
  let first = start + lane;
  return array<vec4f, 4>(inside(v[0], first), inside(v[1], first + 4 * WORKGROUP_SIZE),
                         inside(v[2], first + 8 * WORKGROUP_SIZE), inside(v[3], first + 12 * WORKGROUP_SIZE));
}

fn highest(v: array<vec4f, 4>) -> f32 {
  let m = max(max(v[0], v[1]), max(v[2], v[3]));
  return max(max(m.x, m.y), max(m.z, m.w));
}
