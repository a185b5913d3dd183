// rope_precomputed.wgsl: rotates pairs of each head's first dimensions, in place, by the tables of rope_init.
//
// A lane rotates one pair of up to four heads. Grid: rows * heads / 4 * pairs / WORKGROUP_SIZE, folded into (x, y)
// beyond 65535. Any sizes.
// A position past the tables takes their last row: the host keeps sequences within them.
// Limits: 2^32 - 1 elements of x and of the tables.
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
  let teams = (params.heads + 3) / 4;
  if (i >= params.rows * teams * pairs) { return; }
  let pair = i % pairs;
  let row = i / pairs / teams;
  let head = i / pairs % teams * 4;
  let count = min(4, params.heads - head);
  let entry = min(position_of(row), params.max_seq - 1) * pairs + pair;
  let c = cosines[entry];
  let s = sines[entry];

  let first = (row * params.heads + head) * params.head_dim + select(pair, 2 * pair, params.interleaved != 0);
  let apart = select(pairs, 1, params.interleaved != 0);
  // All reads before the first write.
  var a = vec4f();
  var b = vec4f();
  for (var k = 0u; k < 4; k++) {
    let at_a = first + k * params.head_dim;
    if (k < count) {
      a[k] = x[at_a];
      b[k] = x[at_a + apart];
    }
  }
  let turned_a = a * c - b * s;
  let turned_b = b * c + a * s;
  for (var k = 0u; k < 4; k++) {
    let at_a = first + k * params.head_dim;
    if (k < count) {
      x[at_a] = turned_a[k];
      x[at_a + apart] = turned_b[k];
    }
  }
}
