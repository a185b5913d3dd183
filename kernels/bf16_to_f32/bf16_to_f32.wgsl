// bf16_to_f32.wgsl: y = x, bf16 as f32, bit for bit: NaN and infinities stay what they are.
//
// Any size; eight elements a lane, or one.
// Grid: num_elements / (8 or 1) / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements.
// Replaces main and main_single of the old bf16_to_f32.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override SINGLE: bool = false;  // one element a lane

struct Params {
  num_elements: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;        // [num_elements] bf16, two a word
@group(0) @binding(2) var<storage, read_write> y: array<u32>;  // [num_elements] f32, as bits

// A bf16 is the high half of its f32.
fn wide(i: u32) -> u32 {
  let word = x[i / 2];
  return select(word & 0xffff0000, word << 16, i % 2 == 0);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let g = group.id.y * group.count.x + group.id.x;
  let size = params.num_elements;
  if (SINGLE) {
    let i = g * WORKGROUP_SIZE + at.lane;
    if (i < size) { y[i] = wide(i); }
    return;
  }
  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let first = g * 8 * WORKGROUP_SIZE + at.lane;
  var e = array<u32, 8>();
  for (var k = 0u; k < 8; k++) { e[k] = wide(min(first + k * WORKGROUP_SIZE, size - 1)); }
  for (var k = 0u; k < 8; k++) {
    let i = first + k * WORKGROUP_SIZE;
    if (i < size) { y[i] = e[k]; }
  }
}
