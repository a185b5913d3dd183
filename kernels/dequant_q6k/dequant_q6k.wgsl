// dequant_q6k.wgsl: y = d * scale * (q - 32) for Q6_K blocks as they lie in a file.
//
// A block is 256 elements in 210 bytes: the low four bits of q [128], its high two [64], int8 scales [16], d f16.
// A workgroup makes an eighth as many blocks as it has lanes; half of them decode four scales each for all; a lane
// makes 32 elements, four or eight of each of four runs of 32 at a time: those whose high bits lie in the same bytes.
// Exact in f32; f16 is rounded to nearest, ties to even, at most 65504.
// Grid: num_blocks * 8 / WORKGROUP_SIZE, folded into (x, y) beyond 65535. d is finite, output_offset a multiple of 8.
// Limits: 2^32 - 1 bytes and elements.
// Replaces main of the old dequant_q6k.wgsl.

#import lane
#import half
#import bytes
#import unpack

override WORKGROUP_SIZE: u32 = 256;  // a multiple of 4
override F16_OUT: bool = true;  // y is f16, two a word; else f32

struct Params {
  num_blocks: u32,
  output_offset: u32,  // elements of y before the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> quantized: array<u32>;   // [num_blocks, 210] bytes
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;  // [output_offset + num_blocks * 256] f16 or f32

var<workgroup> scales: array<vec4f, WORKGROUP_SIZE / 2>;  // per half of a block, then half of its runs: of the four runs

// Scales i, counted over all blocks, of 16 elements of each of four runs; of the last block beyond them.
fn scales_of(i: u32) -> vec4f {
  let start = min(i / 4, params.num_blocks - 1) * 210;
  let bytes = start + 192 + i % 4 / 2 * 8;
  let shift = i % 2 * 8;
  let a = unpack4xI8(word_at(bytes) >> shift);
  let b = unpack4xI8(word_at(bytes + 4) >> shift);
  return half_to_f32(half_at(start + 208)) * vec4f(vec4i(a.x, a.z, b.x, b.z));
}

// Where a lane's four elements of each of four runs of 32 lie.
struct Place {
  half: u32,   // of a block: 128 elements, counted over the workgroup's blocks
  first: u32,  // of a run
}

// f32: a lane takes four elements of a run twice; f16: eight, in two parts.
fn place_of(part: u32, lane: u32) -> Place {
  if (F16_OUT) { return Place(lane / 4, lane % 4 * 8 + part * 4); }
  let unit = part * WORKGROUP_SIZE + lane;
  return Place(unit / 8, unit % 8 * 4);
}

// {low bits of two runs and of two more, high bits of all four}
fn load(half: u32, first: u32) -> vec3u {
  let start = min(half / 2, params.num_blocks - 1) * 210;
  let low = start + half % 2 * 64 + first;
  return vec3u(word_at(low), word_at(low + 32), word_at(start + 128 + half % 2 * 32 + first));
}

// Four elements of each of the four runs.
fn decode4(words: vec3u, at: Place) -> array<vec4f, 4> {
  let q = vec4u(words.xy, words.xy >> vec2u(4)) & vec4u(0x0f0f0f0f);
  let h = ((vec4u(words.z) >> vec4u(0, 2, 4, 6)) & vec4u(0x03030303)) << vec4u(4);
  let w = q | h;
  let s = scales[at.half * 2 + at.first / 16];
  return array<vec4f, 4>(s.x * (floats_of_u8(w.x) - 32), s.y * (floats_of_u8(w.y) - 32),
                         s.z * (floats_of_u8(w.z) - 32), s.w * (floats_of_u8(w.w) - 32));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let group_first = (group.id.y * group.count.x + group.id.x) * (WORKGROUP_SIZE / 4);  // half
  if (group_first / 2 >= params.num_blocks) { return; }  // uniform: a whole workgroup leaves together

  if (at.lane < WORKGROUP_SIZE / 2) { scales[at.lane] = scales_of(group_first * 2 + at.lane); }
  workgroupBarrier();

  let a = place_of(0, at.lane);
  let b = place_of(1, at.lane);
  let a_words = load(group_first + a.half, a.first);
  let b_words = load(group_first + b.half, b.first);
  let e = decode4(a_words, a);
  let f = decode4(b_words, b);
  let a_to = params.output_offset + (group_first + a.half) * 128 + a.first;
  if ((group_first + a.half) / 2 < params.num_blocks) {
    for (var run = 0u; run < 4; run++) {
      if (F16_OUT) {
        y[a_to / 8 + run * 4] = vec4u(pack_halves(to_half(bitcast<vec4u>(e[run]))), pack_halves(to_half(bitcast<vec4u>(f[run]))));
      } else {
        y[a_to / 4 + run * 8] = bitcast<vec4u>(e[run]);
      }
    }
  }
  if (!F16_OUT) {
    let b_to = params.output_offset + (group_first + b.half) * 128 + b.first;
    if ((group_first + b.half) / 2 < params.num_blocks) {
      for (var run = 0u; run < 4; run++) { y[b_to / 4 + run * 8] = bitcast<vec4u>(f[run]); }
    }
  }
}
