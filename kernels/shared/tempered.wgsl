// tempered.wgsl: exponentials of logits over a temperature, for softmax. Needs: params.temperature, 1e-30 to 1e30.
const LOWEST = -0x1.fffffep127f;
const MASKED = -3.0e38;  // at or below: not there

// exp((value - top) / temperature), value <= top. Halved, since the difference of two floats may overflow;
// bounded before the division for the same reason, where exp is 0 anyway.
fn weight(value: f32, top: f32) -> f32 {
  let t = 0.5 * params.temperature;
  return exp(max(0.5 * value - 0.5 * top, -200.0 * t) / t);
}

fn weights(values: vec4f, top: f32) -> vec4f {
  let t = 0.5 * params.temperature;
  return exp(max(0.5 * values - 0.5 * top, vec4f(-200.0 * t)) / t);
}
