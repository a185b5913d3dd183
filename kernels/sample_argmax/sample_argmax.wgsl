// sample_argmax.wgsl: the id of each row's largest logit; ties to the lowest id.
//
// SINGLE_PASS: a workgroup a row. Else two dispatches: a workgroup for each of `parts` ranges of a row
// writes its winner, and with IS_REDUCE_PHASE a workgroup a row reduces those. Any vocabulary.
// Grid: rows, or rows * parts, folded into (x, y) beyond 65535.
// With a history the last dispatch also ends the step, as check_stop does: one that depends on another costs a GPU 2 us.
// Limits: 2^32 - 1 logits, and tokens of all rows' history.
// Replaces argmax, argmax_reduce and sample_single_pass of the old sample.wgsl.

#import lane
#import slot
#import order
#import advance

override WORKGROUP_SIZE: u32 = 256;
override IS_REDUCE_PHASE: bool = false;  // reads partials, writes sampled
override SINGLE_PASS: bool = false;      // reads logits, writes sampled; else partials are written

struct Params {
  rows: u32,
  vocab_size: u32,
  parts: u32,          // partials of a row
  pad_token_id: u32,   // never wins; 0xffffffff: none
  logit_softcap: f32,  // of best_logit; 0: none
  has_slots: u32,      // 1: rows whose slot does not run are left as they are
  has_best_logit: u32,
  capacity: u32,       // of the history; 0: it is not bound, and the slots stay
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> slots: array<Slot>;        // [rows]
@group(0) @binding(2) var<storage, read> logits: array<f32>;              // [rows, vocab_size]
@group(0) @binding(3) var<storage, read_write> partials: array<vec2u>;    // [rows, parts]: key, id
@group(0) @binding(4) var<storage, read_write> sampled: array<u32>;       // [rows]
@group(0) @binding(5) var<storage, read_write> best_logit: array<f32>;    // [rows], if has_best_logit
@group(0) @binding(6) var<storage, read_write> history: array<u32>;       // [rows, capacity], if capacity

fn key_at(row: u32, id: u32) -> u32 {
  return select(key_of(logits[row * params.vocab_size + id]), 0, id == params.pad_token_id);  // a branch would be between loads
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let parts = select(params.parts, 1, IS_REDUCE_PHASE || SINGLE_PASS);
  let index = group.id.y * group.count.x + group.id.x;
  let row = index / parts;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  // Else the row's result stays. No return: what is written, too, is not uniform to Tint.
  let runs = params.has_slots == 0 || slots[row].stopped == 0;

  var best = vec2u(0);  // key, id
  if (IS_REDUCE_PHASE) {
    for (var part = at.lane; part < select(0, params.parts, runs); part += WORKGROUP_SIZE) {
      let partial = partials[row * params.parts + part];
      if (partial.x > best.x || (partial.x == best.x && partial.y < best.y)) { best = partial; }
    }
  } else {
    let part_size = (params.vocab_size + parts - 1) / parts;
    let first = index % parts * part_size;
    let end = select(0, min(first + part_size, params.vocab_size), runs);
    // Four loads at once, the last id's in place of those beyond it. A lane's ids grow: of equal keys the lowest stays.
    for (var id = first + at.lane; id < end; id += 4 * WORKGROUP_SIZE) {
      let ids = min(vec4u(id) + vec4u(0, 1, 2, 3) * WORKGROUP_SIZE, vec4u(end - 1));
      let keys = vec4u(key_at(row, ids.x), key_at(row, ids.y), key_at(row, ids.z), key_at(row, ids.w));
      best = select(best, vec2u(keys.x, ids.x), keys.x > best.x);
      best = select(best, vec2u(keys.y, ids.y), keys.y > best.x);
      best = select(best, vec2u(keys.z, ids.z), keys.z > best.x);
      best = select(best, vec2u(keys.w, ids.w), keys.w > best.x);
    }
  }

  let key = workgroup_largest(best.x, at);
  let id = ~workgroup_largest(select(0, ~best.y, best.x == key), at);
  if (at.lane != 0 || !runs) { return; }
  if (IS_REDUCE_PHASE || SINGLE_PASS) {
    sampled[row] = id;
    if (params.has_best_logit != 0) { best_logit[row] = softcap(logit_of(key), params.logit_softcap); }
    if (params.capacity != 0) { advance(row, id); }
  } else {
    partials[index] = vec2u(key, id);
  }
}
