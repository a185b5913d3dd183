// cast_f32_to_f16.wgsl: y = x, f32 rounded to f16: the nearest, ties to even.
//
// Beyond f16's range, infinities included: +-65504. NaN stays NaN. Exact on every device (shared/half.wgsl).
// Any size; four elements a lane. Grid: size / 4 / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Replaces main of the old cast_f32_to_f16.wgsl.

#import lane
#import half

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  size: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4u>;        // [size] f32, as bits; may end in padding
@group(0) @binding(2) var<storage, read_write> y: array<vec2u>;  // [size] f16, two a word

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  if (4 * i >= params.size) { return; }
  let words = pack_halves(to_half_or_nan(x[i]));
  let left = params.size - 4 * i;
  if (left >= 4) {
    y[i] = words;
  } else {  // what follows y stays
    let mask = half_mask(left).xy;
    y[i] = (words & mask) | (y[i] & ~mask);
  }
}
