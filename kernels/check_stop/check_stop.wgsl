// check_stop.wgsl: ends a step: each running slot takes its sampled token and stops if it must.
//
// One lane a row (shared/advance.wgsl). Grid: rows / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 rows, and tokens of all rows' history.
// Replaces main of the old check_stop.wgsl (advance 0); advance 1 is what a recorded step needs.

#import lane
#import slot
#import advance

override WORKGROUP_SIZE: u32 = 64;

struct Params {
  eos_token_id: u32,  // these three without slots
  max_tokens: u32,
  current_pos: u32,
  advance: u32,       // 1: the slots are bound and advance
  rows: u32,
  capacity: u32,      // of the history; 0: it is not bound
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> sampled: array<u32>;            // [rows]
@group(0) @binding(2) var<storage, read_write> should_stop: array<u32>;  // [rows], unwritten if advance
@group(0) @binding(3) var<storage, read_write> slots: array<Slot>;       // [rows], unread if !advance
@group(0) @binding(4) var<storage, read_write> history: array<u32>;      // [rows, capacity]

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  if (row >= params.rows) { return; }
  let token = sampled[row];
  if (params.advance == 0) {
    should_stop[row] = u32(token == params.eos_token_id || params.current_pos >= params.max_tokens);
    return;
  }
  if (slots[row].stopped != 0) { return; }
  advance(row, token);
}
