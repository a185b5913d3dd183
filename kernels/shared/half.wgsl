// half.wgsl: f16 to f32 and back by bits, so that every device gives the same: the built-in functions may flush
// subnormals, and round as they like.

// The f16 in the low bits, a finite one. Exact.
fn half_to_f32(bits: u32) -> f32 {
  let magnitude = bits & 0x7fff;
  let normal = bitcast<f32>((magnitude << 13) + 0x38000000);
  let value = select(normal, f32(magnitude) * 5.9604644775390625e-8, magnitude < 0x400);
  return select(value, -value, (bits & 0x8000) != 0);
}

// The f16 bits of f32 bits: the nearest, ties to even, subnormal ones too. Beyond f16's range, infinities
// included, +-65504. NaN stays NaN, with the payload bits that fit.
fn to_half(bits: vec4u) -> vec4u {
  let magnitude = bits & vec4u(0x7fffffff);
  let m = min(magnitude, vec4u(0x477fe000));  // 65504
  // The exponents' biases differ by 112; 13 bits of mantissa go.
  let normal = (m - vec4u(112 << 23) + vec4u(0xfff) + ((m >> vec4u(13)) & vec4u(1))) >> vec4u(13);
  // Below 2^-14: a count of 2^-24. A shift by 25 leaves nothing.
  let shift = clamp(vec4u(126) - (m >> vec4u(23)), vec4u(14), vec4u(25));
  let mantissa = (m & vec4u(0x7fffff)) | vec4u(0x800000);
  let below_half = (vec4u(1) << (shift - vec4u(1))) - vec4u(1);
  let subnormal = (mantissa + below_half + ((mantissa >> shift) & vec4u(1))) >> shift;
  let number = select(normal, subnormal, m < vec4u(113 << 23));
  let payload = (magnitude >> vec4u(13)) & vec4u(0x3ff);
  let nan = vec4u(0x7c00) | select(payload, vec4u(0x200), payload == vec4u(0));
  return select(number, nan, magnitude > vec4u(0x7f800000)) | ((bits >> vec4u(16)) & vec4u(0x8000));
}

fn pack_halves(h: vec4u) -> vec2u { return h.xz | (h.yw << vec2u(16)); }

// The bits that the first `count` of eight halves take in their four words.
fn half_mask(count: u32) -> vec4u {
  let n = vec4u(count);
  return select(vec4u(0), vec4u(0xffff), n > vec4u(0, 2, 4, 6)) | select(vec4u(0), vec4u(0xffff0000), n > vec4u(1, 3, 5, 7));
}
