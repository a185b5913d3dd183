// fused_attention.wgsl: softmax(scale * q k^T) v of a decode step, row r of which is the newest position of slot r; with
// FROM_QKV, of rows of [q | k | v], whose q and k are rotated, and whose k and v go into the cache.
//
// A workgroup serves up to TEAM query heads of a KV head, whose keys and values it looks at a tile at a time (the online softmax of Milakov and
// Gimelshein, 2018): between the lanes of subgroups (fused_attention_lanes.wgsl), or with MATRIX by products of matrices
// (fused_attention_matrices.wgsl). Loads wait neither for the query nor, where no window moves, for the position. Sums in f32.
// An instruction that is reached once costs twice what it costs in a loop, since it comes from far: so little is worked out before the first
// loads, and nothing that a constant can say.
// With SPLIT the workgroups that share a query's keys take rounds of them in turn, as many workgroups as there are split_keys for, and
// leave their results in `parts` (shared/splits.wgsl) for the next dispatch to combine.
// Grid: (kv_heads * teams, splits, rows). Only the first team's workgroup with the newest key writes it to the cache.
// Limits: 65,535 rows; subgroups of KEY_LANES lanes at least; with SPLIT head_dim a multiple of 16 and splits of 4.
// Beyond the plan: subgroups force it, whose lanes keep a key between them. Replaces nothing by itself: it does what split_qkv and
// then attention_decode do.

#import lane
#import known_lanes
#import slot
#import kv
#import rope
#import fused_attention_shares
#import fused_attention_lanes
#import fused_attention_matrices

override WORKGROUP_SIZE: u32 = 32;
override F16_KV: bool = true;     // k and v are f16, two a word
override Q8_KV: bool = false;     // k and v are of q8_0, as kv.wgsl has it; without FROM_QKV
override FROM_QKV: bool = true;   // else q is as attention takes it, and the cache holds the newest key
override SPLIT: bool = false;     // workgroups share a query's keys, and leave parts
override WINDOWED: bool = false;  // the first key depends on the position: of a sliding window, or a ring
override PAGED: bool = false;     // kv_layout is KV_PAGED
override MATRIX: bool = false;    // by subgroup matrices, in workgroups of 256; without KEY_LANES
// HEAD_DIM: a multiple of 4 KEY_LANES, with F16_KV and Q8_KV of 8 KEY_LANES; at most 16 KEY_LANES
// TEAM: query heads of a workgroup, at most; 1 to 4
// KEY_LANES: lanes that hold a key; powers of two up to 32
// KEYS: keys that they load at once; 1 to 4; with MATRIX sixteens of keys of a tile, 2 or 4

struct Params {
  rows: u32,
  heads: u32,
  kv_heads: u32,
  ratio: u32,           // heads of a KV head,
  teams: u32,           // in so many workgroups,
  team_heads: u32,      // of each but the last, which has what is left
  scale: f32,
  attn_softcap: f32,    // 0: off
  sliding_window: u32,  // 0: off
  kv_layout: u32,       // of kv.wgsl
  kv_rows: u32,
  capacity: u32,
  page_size: u32,
  splits: u32,          // with SPLIT: workgroups that may share a query's keys, a multiple of 4
  max_seq: u32,
  rotary_dim: u32,      // even, <= HEAD_DIM
  interleaved: u32,     // 1: pairs (2i, 2i + 1), 0: (i, i + rotary_dim / 2)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4f>;          // [rows, (heads + 2 kv_heads) * HEAD_DIM], or q alone: [rows, heads * HEAD_DIM]
@group(0) @binding(2) var<storage, read> rope: array<vec4f>;         // [2, max_seq, rotary_dim / 2]: cosines, then sines
@group(0) @binding(3) var<storage, read> slots: array<Slot>;         // [rows]
@group(0) @binding(4) var<storage, read> block_table: array<u32>;    // [rows, capacity / page_size], read if paged
@group(0) @binding(5) var<storage, read_write> k: array<vec4u>;      // [kv_rows, kv_heads, HEAD_DIM] f32, f16 or q8_0
@group(0) @binding(6) var<storage, read_write> v: array<vec4u>;      // [kv_rows, kv_heads, HEAD_DIM] f32, f16 or q8_0
@group(0) @binding(7) var<storage, read_write> parts: array<vec2u>;  // of shared/splits.wgsl, f16 with F16_KV or Q8_KV
@group(0) @binding(8) var<storage, read_write> out: array<f32>;      // [rows, heads, HEAD_DIM], without SPLIT

// A head in the cache is read in units of 16 bytes, or of q8_0 of eight integers in two words, the word of their scale, and their
// dimension: so many are in it.
fn eights() -> bool { return F16_KV | Q8_KV; }
fn head_units() -> u32 { return select(HEAD_FOURS, HEAD_FOURS / 2, eights()); }

// kv_run and kv_row, of a layout of which the constants say something.
fn run_from(row: u32, first: u32) -> KvRun {
  if (WINDOWED) { return kv_run(row, first); }
  return KvRun(row, first, first);
}
fn cache_row(run: KvRun, i: u32) -> u32 {
  if (WINDOWED | PAGED) { return kv_row(run, i); }
  return run.slot * params.capacity + run.start + i;
}

fn keys_of(row: u32, position: u32, stopped: u32) -> Keys {
  if (stopped != 0) { return Keys(0, 0, position, false, 0); }
  let ring = WINDOWED & (params.kv_layout == KV_RING);
  var first = 0u;
  if (WINDOWED) {
    if (params.sliding_window != 0) { first = max(position + 1, params.sliding_window) - params.sliding_window; }
    if (ring) { first = max(first, max(position + 1, params.capacity) - params.capacity); }
  }
  var end = position + 1;
  if (!ring) { end = min(end, params.capacity); }
  var newest_row = params.kv_rows;
  if (ring | (position < params.capacity)) { newest_row = cache_row(run_from(row, position), 0); }
  let has_row = newest_row < params.kv_rows;
  if (FROM_QKV & !has_row) { end = min(end, position); }
  return Keys(first, max(end, first) - first, position, FROM_QKV & has_row, newest_row);
}

// Four of a split's values, and what they are of.
fn leave_values(query_head: u32, split: u32, four: u32, values: vec4f) {
  let i = (query_head * params.splits + split) * HEAD_FOURS + four;
  if (eights()) {
    parts[i] = vec2u(kv_halves(values.xy), kv_halves(values.zw));
  } else {
    parts[2 * i] = bitcast<vec2u>(values.xy);
    parts[2 * i + 1] = bitcast<vec2u>(values.zw);
  }
}
fn leave_ends(query_head: u32, split: u32, peak: f32, total: f32) {
  let behind = params.rows * params.heads * params.splits * HEAD_FOURS * select(2u, 1u, eights());
  parts[behind + query_head * params.splits + split] = bitcast<vec2u>(vec2f(peak, total));
}

// What a split without keys leaves.
fn leave_nothing(s: Share, at: Lane) {
  for (var i = at.lane; i < s.heads * HEAD_FOURS; i += WORKGROUP_SIZE) { leave_values(s.first_head + i / HEAD_FOURS, s.split, i % HEAD_FOURS, vec4f()); }
  if (at.lane < s.heads) { leave_ends(s.first_head + at.lane, s.split, LOWEST, 0); }
}

// Four of a head's results: the sum, still to be divided by the total.
fn leave(s: Share, h: u32, four: u32, sum: vec4f, peak: f32, total: f32) {
  if (h >= s.heads) { return; }
  let result = select(vec4f(), sum / total, total > 0);
  if (SPLIT) {
    leave_values(s.first_head + h, s.split, four, result);
    if (four == 0) { leave_ends(s.first_head + h, s.split, peak, total); }
  } else {
    for (var j = 0u; j < 4; j++) { out[(s.first_head + h) * HEAD_DIM + 4 * four + j] = result[j]; }
  }
}

var<workgroup> tile: array<vec4u, select(64, TILE_UNITS, MATRIX)>;  // Dawn wants room for a matrix

const LEAVES_EARLY = true;  // a workgroup without keys
fn await_qkv(at: Lane) {}
fn qkv_fours(i: u32, j: u32) -> Fours { return Fours(qkv[i], qkv[j]); }
fn qkv_element(i: u32) -> f32 { return qkv[i / 4][i % 4]; }
fn rope_at(i: u32) -> f32 { return rope[i / 4][i % 4]; }

fn row_elements() -> u32 { return select(params.heads, params.heads + 2 * params.kv_heads, FROM_QKV) * HEAD_DIM; }

fn cache_unit(row: u32, kv_head: u32, unit: u32) -> u32 { return (row * params.kv_heads + kv_head) * head_units() + unit; }
// Where unit `part` of key i of a run is in the cache; of key n - 1 for those beyond.
fn key_start(run: KvRun, i: u32, n: u32, kv_head: u32, part: u32) -> u32 {
  return cache_unit(min(cache_row(run, min(i, n - 1)), params.kv_rows - 1), kv_head, part);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let share = share_of(group.id);
  if (MATRIX) { matrices(share, slots[share.row].position, slots[share.row].stopped, at); } else { lanes(share, at); }
}
