// half.wgsl: f16 to f32 and back by bits, so that every device gives the same: the built-in functions may flush
// subnormals, and round as they like.

// The f16 in the low bits, a finite one. Exact.
fn half_to_f32(bits: u32) -> f32 {
  let magnitude = bits & 0x7fff;
  let normal = bitcast<f32>((magnitude << 13) + 0x38000000);
  let value = select(normal, f32(magnitude) * 5.9604644775390625e-8, magnitude < 0x400);
  return select(value, -value, (bits & 0x8000) != 0);
}

// The f16 bits of a number's f32 bits: the nearest, ties to even, subnormal ones too. Beyond f16's range,
// infinities included, +-65504.
fn to_half(bits: vec4u) -> vec4u {
  let magnitude = min(bits & vec4u(0x7fffffff), vec4u(0x477fe000));  // 65504
  // 2^13 times the number's power of two, 0.5 at least: added, it leaves the 10 bits of mantissa that f16 has,
  // or a count of 2^-24. An f32 addition rounds as we want, and the subnormals of f32, lost or not, give 0.
  let step = max((magnitude & vec4u(0x7f800000)) + vec4u(13 << 23), vec4u(0x3f000000));
  let rounded = bitcast<vec4u>(bitcast<vec4f>(magnitude) + bitcast<vec4f>(step)) - step;
  return (rounded + (step >> vec4u(13)) - vec4u(126 << 10)) | ((bits >> vec4u(16)) & vec4u(0x8000));
}

// The same, but NaN stays NaN, with the payload bits that fit.
fn to_half_or_nan(bits: vec4u) -> vec4u {
  let payload = (bits >> vec4u(13)) & vec4u(0x3ff);
  let nan = ((bits >> vec4u(16)) & vec4u(0x8000)) | vec4u(0x7c00) | select(payload, vec4u(0x200), payload == vec4u(0));
  return select(to_half(bits), nan, (bits & vec4u(0x7fffffff)) > vec4u(0x7f800000));
}

fn pack_halves(h: vec4u) -> vec2u { return h.xz | (h.yw << vec2u(16)); }

// The bits that the first `count` of eight halves take in their four words.
fn half_mask(count: u32) -> vec4u {
  let n = vec4u(count);
  return select(vec4u(0), vec4u(0xffff), n > vec4u(0, 2, 4, 6)) | select(vec4u(0), vec4u(0xffff0000), n > vec4u(1, 3, 5, 7));
}
