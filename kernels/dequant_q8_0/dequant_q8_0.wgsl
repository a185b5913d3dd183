// dequant_q8_0.wgsl: y = d * q for Q8_0 blocks as they lie in a file: d f16, q int8 [32].
//
// A workgroup makes as many blocks as it has lanes; a lane decodes a scale for all and makes 32 elements, 16 bytes of
// y at a time beside its neighbours. Exact in f32; f16 is rounded to nearest, ties to even, at most 65504.
// Grid: num_blocks / WORKGROUP_SIZE, folded into (x, y) beyond 65535. Scales are finite, output_offset a multiple of 8.
// Limits: 2^32 - 1 bytes and elements.
// Replaces main of the old dequant_q8_0.wgsl.

#import lane
#import half
#import bytes
#import unpack

override WORKGROUP_SIZE: u32 = 256;
override F16_OUT: bool = true;  // y is f16, two a word; else f32

struct Params {
  num_blocks: u32,
  output_offset: u32,  // elements of y before the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> quantized: array<u32>;   // [num_blocks, 34] bytes
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;  // [output_offset + num_blocks * 32] f16 or f32

var<workgroup> scales: array<f32, WORKGROUP_SIZE>;

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let size = select(4u, 8u, F16_OUT);  // elements of a store
  let lanes = 32 / size;               // side by side in a block
  let group_first = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE;
  if (group_first >= params.num_blocks) { return; }  // uniform: a whole workgroup leaves together

  scales[at.lane] = half_to_f32(half_at(min(group_first + at.lane, params.num_blocks - 1) * 34));
  workgroupBarrier();
  let units = min(params.num_blocks - group_first, WORKGROUP_SIZE) * lanes;
  for (var unit = at.lane; unit < units; unit += WORKGROUP_SIZE) {
    let d = scales[unit / lanes];
    let byte = (group_first + unit / lanes) * 34 + 2 + unit % lanes * size;
    let low = d * floats_of_i8(word_at(byte));
    let to = params.output_offset / size + group_first * lanes + unit;
    if (F16_OUT) {
      let high = d * floats_of_i8(word_at(byte + 4));
      y[to] = vec4u(pack_halves(to_half(bitcast<vec4u>(low))), pack_halves(to_half(bitcast<vec4u>(high))));
    } else {
      y[to] = bitcast<vec4u>(low);
    }
  }
}
