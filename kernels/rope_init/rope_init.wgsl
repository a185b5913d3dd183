// rope_init.wgsl: the tables of rotary embedding: cos and sin of position * frequency, times a factor.
//
// One pair at four positions a lane. Angles are exact integers, so a table is right to 3e-7 at any position.
// Grid: max_seq / 4 * pairs / WORKGROUP_SIZE, folded into (x, y) beyond 65535. Any sizes.
// Limits: 2^32 - 1 elements, positions below 2^32 - 1.
// Replaces precompute_freqs of the old rope.wgsl.

#import lane
#import turns

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  max_seq: u32,
  pairs: u32,
  start: u32,             // position of the tables' first row
  attention_factor: f32,  // multiplies both
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> freqs: array<vec2u>;        // [pairs]: turns per position; turns.wgsl
@group(0) @binding(2) var<storage, read_write> cosines: array<f32>;  // [max_seq, pairs]
@group(0) @binding(3) var<storage, read_write> sines: array<f32>;    // [max_seq, pairs]

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let first = i / params.pairs * 4;
  if (first >= params.max_seq) { return; }
  let pair = i % params.pairs;
  let frequency = freqs[pair];
  for (var row = first; row < min(first + 4, params.max_seq); row++) {
    let point = params.attention_factor * cos_sin(turns_at(params.start + row, frequency));
    cosines[row * params.pairs + pair] = point.x;
    sines[row * params.pairs + pair] = point.y;
  }
}
