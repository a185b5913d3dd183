// dequant_q6k.wgsl: y = d * scale * (q - 32) for Q6_K blocks as they lie in a file.
//
// A block is 256 elements in 210 bytes: the low four bits of q [128], its high two [64], int8 scales [16], d f16.
// A lane makes four times 16 bytes of y, 32 elements apart: those whose high bits lie in the same bytes.
// Exact in f32; f16 is rounded to nearest, ties to even, at most 65504.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535. d is finite, output_offset a multiple of 8.
// Replaces main of the old dequant_q6k.wgsl.

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
@group(0) @binding(1) var<storage, read> quantized: array<u32>;   // [num_blocks, 210] bytes
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;  // [output_offset + num_blocks * 256] f16 or f32

// Four elements of each of the four runs of 32; scale: of each run.
fn decode4(low: vec2u, high: u32, scale: vec4f) -> array<vec4f, 4> {
  let q = vec4u(low, low >> vec2u(4)) & vec4u(0x0f0f0f0f);
  let h = ((vec4u(high) >> vec4u(0, 2, 4, 6)) & vec4u(0x03030303)) << vec4u(4);
  let w = q | h;
  return array<vec4f, 4>(scale.x * (vec4f(unpack4xU8(w.x)) - 32), scale.y * (vec4f(unpack4xU8(w.y)) - 32),
                         scale.z * (vec4f(unpack4xU8(w.z)) - 32), scale.w * (vec4f(unpack4xU8(w.w)) - 32));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let unit = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let size = select(4u, 8u, F16_OUT);  // elements of a store
  let half = unit / (32 / size);       // halves of 128 elements, counted over all blocks
  let block = half / 2;
  if (block >= params.num_blocks) { return; }
  let first = unit % (32 / size) * size;  // of a run of 32
  let start = block * 210;
  let low = start + half % 2 * 64 + first;
  let high = start + 128 + half % 2 * 32 + first;

  // The scales of 16 elements each: of the four runs' first or second halves.
  let bytes = start + 192 + half % 2 * 8;
  let shift = first / 16 * 8;
  let a = unpack4xI8(word_at(bytes) >> shift);
  let b = unpack4xI8(word_at(bytes + 4) >> shift);
  let scale = half_to_f32(half_at(start + 208)) * vec4f(vec4i(a.x, a.z, b.x, b.z));

  let e = decode4(vec2u(word_at(low), word_at(low + 32)), word_at(high), scale);
  let to = (params.output_offset + half * 128 + first) / size;
  if (F16_OUT) {
    let f = decode4(vec2u(word_at(low + 4), word_at(low + 36)), word_at(high + 4), scale);
    for (var run = 0u; run < 4; run++) { y[to + run * 4] = vec4u(pack_halves(to_half(bitcast<vec4u>(e[run]))), pack_halves(to_half(bitcast<vec4u>(f[run])))); }
  } else {
    for (var run = 0u; run < 4; run++) { y[to + run * 8] = bitcast<vec4u>(e[run]); }
  }
}
