// half.wgsl: f16 to f32 and back by bits: the built-in functions may flush subnormals, and round as they like.

// The f16 in the low bits, a finite one. Exact.
fn half_to_f32(bits: u32) -> f32 {
  let magnitude = bits & 0x7fff;
  let normal = bitcast<f32>((magnitude << 13) + 0x38000000);
  let value = select(normal, f32(magnitude) * 5.9604644775390625e-8, magnitude < 0x400);
  return select(value, -value, (bits & 0x8000) != 0);
}

// The f16 nearest to x, ties to even, in the low bits. What is beyond 65504 gives 65504; x is no NaN.
fn f32_to_half(x: f32) -> u32 {
  let magnitude = min(abs(x), 65504.0);
  // A power of two, 2^13 times that of x, has x's steps in f16 as its own in f32, so that the sum rounds to them: they
  // are its low bits. 0.5 has the steps of subnormals.
  let step = max((bitcast<u32>(magnitude) & 0x7f800000) + (13u << 23), 0x3f000000u);
  let rounded = bitcast<u32>(magnitude + bitcast<f32>(step)) - step;
  return (rounded + (step >> 13) - (126u << 10)) | ((bitcast<u32>(x) >> 16) & 0x8000);
}

// Four as two words.
fn pack_halves(x: vec4f) -> vec2u {
  return vec2u(f32_to_half(x.x) | (f32_to_half(x.y) << 16), f32_to_half(x.z) | (f32_to_half(x.w) << 16));
}
