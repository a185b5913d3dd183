// rope_precomputed.wgsl: rotates pairs of each head's first dimensions, in place, by the tables of rope_init.
//
// One pair a lane, any sizes. Grid: rows * heads * pairs / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// A position past the tables takes their last row: the host keeps sequences within them.
// Replaces main of the old rope.wgsl.

#import lane
#import slot

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  rows: u32,
  heads: u32,
  head_dim: u32,
  rotary_dim: u32,   // dimensions that rotate, the first of each head; even, at most head_dim
  max_seq: u32,      // rows of the tables
  interleaved: u32,  // 1: pairs are (2i, 2i + 1); 0: (i, i + rotary_dim / 2)
  start_pos: u32,    // position of row 0, unless from_slots
  from_slots: u32,   // 1: positions come from slots
  prefill: u32,      // with from_slots, 0: row r is at the position of slot r; 1: r on from that of slot `slot`
  slot: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> cosines: array<f32>;  // [max_seq, rotary_dim / 2]
@group(0) @binding(2) var<storage, read> sines: array<f32>;    // [max_seq, rotary_dim / 2]
@group(0) @binding(3) var<storage, read> slots: array<Slot>;   // unread if from_slots == 0
@group(0) @binding(4) var<storage, read_write> x: array<f32>;  // [rows, heads, head_dim]

fn position_of(row: u32) -> u32 {
  if (params.from_slots == 0) { return params.start_pos + row; }
  if (params.prefill == 0) { return slots[row].position; }
  return slots[params.slot].position + row;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let pairs = params.rotary_dim / 2;
  if (i >= params.rows * params.heads * pairs) { return; }
  let pair = i % pairs;
  let head = i / pairs;  // of all rows
  let entry = min(position_of(head / params.heads), params.max_seq - 1) * pairs + pair;
  let c = cosines[entry];
  let s = sines[entry];

  let first = head * params.head_dim + select(pair, 2 * pair, params.interleaved != 0);
  let second = first + select(pairs, 1, params.interleaved != 0);
  let a = x[first];
  let b = x[second];
  x[first] = a * c - b * s;
  x[second] = b * c + a * s;
}
