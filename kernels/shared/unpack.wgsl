// unpack.wgsl: bytes to f32, exactly, without the conversions that GPUs do at a fraction of their speed: bits in the
// mantissa of 2^23, where they stand for as much as they do in a word, scaled down, less 2^23 as much scaled.

// The four bytes of a word, unsigned.
fn floats_of_u8(word: u32) -> vec4f {
  let w = vec4u(vec2u(word), vec2u(word >> 16));
  let bits = (w & vec4u(0xff, 0xff00, 0xff, 0xff00)) | vec4u(0x4b000000);
  return bitcast<vec4f>(bits) * vec4f(1, 0x1p-8, 1, 0x1p-8) - vec4f(0x1p23, 0x1p15, 0x1p23, 0x1p15);
}

// Signed: unsigned when 128 is added.
fn floats_of_i8(word: u32) -> vec4f { return floats_of_u8(word ^ 0x80808080) - 128; }
