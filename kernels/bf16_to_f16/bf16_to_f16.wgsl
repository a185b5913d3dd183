// bf16_to_f16.wgsl: y = x, bf16 as f16: exact from 2^-14 to 65504, below rounded to nearest, ties to even.
//
// Beyond f16's range, infinities included: +-65504. NaN stays NaN. The same on every device (shared/half.wgsl).
// Any size; eight elements a lane. Grid: size / 8 / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Replaces main of the old bf16_to_f16.wgsl.

#import lane
#import half

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  num_elements: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4u>;        // [num_elements] bf16, two a word; may end in padding
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;  // [num_elements] f16, two a word

// Two words of bf16, as two words of f16. A bf16 is the high half of its f32.
fn convert(words: vec2u) -> vec2u {
  let low = words << vec2u(16);
  let high = words & vec2u(0xffff0000);
  return pack_halves(to_half_or_nan(vec4u(low.x, high.x, low.y, high.y)));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  if (8 * i >= params.num_elements) { return; }
  let pairs = x[i];
  let words = vec4u(convert(pairs.xy), convert(pairs.zw));
  let left = params.num_elements - 8 * i;
  if (left >= 8) {
    y[i] = words;
  } else {  // what follows y stays
    let mask = half_mask(left);
    y[i] = (words & mask) | (y[i] & ~mask);
  }
}
