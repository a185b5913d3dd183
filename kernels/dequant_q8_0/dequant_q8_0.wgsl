// dequant_q8_0.wgsl: y = d * q for Q8_0 blocks as they lie in a file: d f16, q int8 [32].
//
// A lane makes 16 bytes of y. Exact in f32; f16 is rounded to nearest, ties to even, at most 65504.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535. Scales are finite, output_offset a multiple of 8.
// Replaces main of the old dequant_q8_0.wgsl.

#import lane
#import half
#import bytes

override WORKGROUP_SIZE: u32 = 256;
override F16_OUT: bool = true;  // y is f16, two a word; else f32

struct Params {
  num_blocks: u32,
  output_offset: u32,  // elements of y before the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> quantized: array<u32>;   // [num_blocks, 34] bytes
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;  // [output_offset + num_blocks * 32] f16 or f32

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let unit = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let size = select(4u, 8u, F16_OUT);  // elements of a unit
  let block = unit / (32 / size);
  if (block >= params.num_blocks) { return; }
  let first = unit % (32 / size) * size;
  let start = block * 34;
  let d = half_to_f32(half_at(start));
  let low = d * vec4f(unpack4xI8(word_at(start + 2 + first)));
  let to = (params.output_offset + block * 32 + first) / size;
  if (F16_OUT) {
    let high = d * vec4f(unpack4xI8(word_at(start + 6 + first)));
    y[to] = vec4u(pack_halves(to_half(bitcast<vec4u>(low))), pack_halves(to_half(bitcast<vec4u>(high))));
  } else {
    y[to] = bitcast<vec4u>(low);
  }
}
