// activation.wgsl: SiLU and GELU, right for any finite x.

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
