// q4k.wgsl: Q4_K blocks of 256 weights in nine vec4<u32>, as they lie in a file. Needs: #import half,
// #import unpack.
//
// The first has {d | dmin << 16, 12 bytes of 6-bit scales and minima}; the others have two runs of 32 weights in the
// low and high nibbles of 32 bytes each. Weight = scale * nibble - minimum.

// {scale, minimum} of run 0 to 7, from a block's first vec4.
fn q4k_scale(head: vec4u, run: u32) -> vec2f {
  let shift = run % 4 * 8;
  let low = head.y >> shift;
  let mid = head.z >> shift;
  let high = head.w >> shift;
  var packed = vec2u(low & 63, mid & 63);
  if (run >= 4) { packed = vec2u((high & 15) | ((low >> 2) & 48), ((high >> 4) & 15) | ((mid >> 2) & 48)); }
  return vec2f(half_to_f32(head.x), half_to_f32(head.x >> 16)) * vec2f(packed);
}

// Of an even run and the next: {scale, minimum, scale, minimum}.
fn q4k_scales(head: vec4u, run: u32) -> vec4f {
  let shift = run % 4 * 8;
  let low = vec2u(head.y, head.z) >> vec2u(shift);
  let high = head.w >> shift;
  var packed = vec4u(low, low >> vec2u(8)) & vec4u(63);
  if (run >= 4) { packed = ((vec4u(high) >> vec4u(0, 4, 8, 12)) & vec4u(15)) | (vec4u(low >> vec2u(2), low >> vec2u(10)) & vec4u(48)); }
  let d = vec2f(half_to_f32(head.x), half_to_f32(head.x >> 16));
  return vec4f(d, d) * vec4f(packed);
}

// The low nibbles of four bytes.
fn nibbles_of(word: u32) -> vec4f { return floats_of_u8(word & 0x0f0f0f0f); }
