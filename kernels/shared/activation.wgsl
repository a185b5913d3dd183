// activation.wgsl: SiLU, and both forms of GELU, right for any finite x.

// 1 / (1 + exp(-x)). exp never sees a positive number: it can't overflow.
fn sigmoid(x: vec4f) -> vec4f {
  let e = exp(-abs(x));
  return select(e, vec4f(1), x >= vec4f(0)) / (1 + e);
}

fn silu(x: vec4f) -> vec4f { return x * sigmoid(x); }

// The tanh form, 0.5 x (1 + tanh(u)) with u = sqrt(2 / pi) (x + 0.044715 x^3), as x sigmoid(2u), which does not
// cancel. Beyond 12 the sigmoid is 0 or 1 in f32, and the cube could overflow.
fn gelu(x: vec4f) -> vec4f {
  let t = clamp(x, vec4f(-12), vec4f(12));
  return x * sigmoid(t * (1.5957691216057308 + 0.07135481627159968 * t * t));
}

// x / 2 (1 + erf(x / sqrt(2))), with erfc(z) of z >= 0 as a polynomial times exp(-z^2), within 2e-7 (Abramowitz and
// Stegun, 7.1.26).
fn gelu_erf(x: vec4f) -> vec4f {
  let z = min(abs(x) * 0.7071067811865476, vec4f(10));
  let t = 1 / (1 + 0.3275911 * z);
  let tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * exp(-z * z);
  return 0.5 * x * select(tail, 2 - tail, x >= vec4f(0));
}
