// attention_prefill.wgsl: softmax(scale * q k^T) v for many queries of one sequence, causal or not.
//
// A workgroup serves BLOCK_SIZE queries of one head, a lane each, and walks the keys a tile at a time with a running
// maximum and sum (online softmax; FlashAttention, Dao et al., 2022). HEAD_TILE dimensions of the output stay in registers:
// a larger head_dim takes several passes, each with scores of its own. Sums in f32. Any kv_len.
// Grid: (query blocks, heads, passes). A query that sees no key gives zeros.
// Limits: head_dim 256, 65,535 heads, a multiple of kv_heads.
// Replaces main and attention_decode of the old attention.wgsl, attention_f16kv.wgsl, attention_small.wgsl, attention_small_f16kv.wgsl.

#import slot
#import kv

override F16_KV: bool = false;       // k and v are f16, two a word, each head rounded up to even
override SMALL_TILES: bool = false;  // tiles of 8 keys instead of 16
override BLOCK_SIZE: u32 = 64;       // queries of a workgroup
override HEAD_TILE: u32 = 64;        // dimensions held at a time: 32 or 64

struct Params {
  rows: u32,            // queries
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  kv_len: u32,          // keys there are, if kv_len_source == 0
  kv_len_source: u32,   // 1: the rows are `slot`'s, from its position on, and see what is before them
  slot: u32,
  start_pos: u32,       // position of the first query, if kv_len_source == 0
  is_causal: u32,       // a query sees keys up to its own position
  scale: f32,
  attn_softcap: f32,    // 0: off
  sliding_window: u32,  // 0: off
  kv_layout: u32,       // of kv.wgsl
  kv_rows: u32,
  capacity: u32,
  page_size: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;            // [rows, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<u32>;            // [kv_rows, kv_heads, head_dim] f32 or f16
@group(0) @binding(3) var<storage, read> v: array<u32>;            // [kv_rows, kv_heads, head_dim] f32 or f16
@group(0) @binding(4) var<storage, read> slots: array<Slot>;       // [slots], unread if kv_len_source == 0
@group(0) @binding(5) var<storage, read> block_table: array<u32>;  // [slots, capacity / page_size], read if paged
@group(0) @binding(6) var<storage, read_write> out: array<f32>;    // [rows, heads, head_dim]

const LOWEST = -1e38;  // below any score, and finite when one is subtracted from it
const MOST_UNITS = 16; // HEAD_TILE / 4 at most

var<workgroup> k_tile: array<vec4f, 4 * HEAD_TILE>;  // [16, HEAD_TILE / 4]
var<workgroup> v_tile: array<vec4f, 4 * HEAD_TILE>;  // [16, HEAD_TILE / 4]
// [4, BLOCK_SIZE] a lane's own scores of four keys: here and not in registers, so that the loops over them need no unrolling.
var<workgroup> scores: array<vec4f, 4 * BLOCK_SIZE>;

fn tile_keys() -> u32 { return select(16u, 8u, SMALL_TILES); }
fn head_words() -> u32 { return select(params.head_dim, (params.head_dim + 1) / 2, F16_KV); }

// Dimensions d to d + 3 of head `head` of the cache, d a multiple of 4; zeros beyond head_dim.
fn k_four(head: u32, d: u32) -> vec4f {
  let at = head * head_words();
  let inside = vec4u(d, d + 1, d + 2, d + 3) < vec4u(params.head_dim);
  if (F16_KV) {
    let last = head_words() - 1;
    return select(vec4f(), vec4f(unpack2x16float(k[at + min(d / 2, last)]), unpack2x16float(k[at + min(d / 2 + 1, last)])), inside);
  }
  let i = min(vec4u(d, d + 1, d + 2, d + 3), vec4u(params.head_dim - 1));
  return select(vec4f(), bitcast<vec4f>(vec4u(k[at + i.x], k[at + i.y], k[at + i.z], k[at + i.w])), inside);
}
fn v_four(head: u32, d: u32) -> vec4f {
  let at = head * head_words();
  let inside = vec4u(d, d + 1, d + 2, d + 3) < vec4u(params.head_dim);
  if (F16_KV) {
    let last = head_words() - 1;
    return select(vec4f(), vec4f(unpack2x16float(v[at + min(d / 2, last)]), unpack2x16float(v[at + min(d / 2 + 1, last)])), inside);
  }
  let i = min(vec4u(d, d + 1, d + 2, d + 3), vec4u(params.head_dim - 1));
  return select(vec4f(), bitcast<vec4f>(vec4u(v[at + i.x], v[at + i.y], v[at + i.z], v[at + i.w])), inside);
}
fn q_four(row: u32, head: u32, d: u32) -> vec4f {
  let at = (row * params.heads + head) * params.head_dim;
  var e = vec4f();
  for (var j = 0u; j < 4; j++) { e[j] = select(0, q[at + min(d + j, params.head_dim - 1)], d + j < params.head_dim); }
  return params.scale * e;
}

fn softcapped(score: vec4f) -> vec4f {
  if (params.attn_softcap == 0) { return score; }
  return params.attn_softcap * tanh(clamp(score / params.attn_softcap, vec4f(-10), vec4f(10)));
}

@compute @workgroup_size(BLOCK_SIZE)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let units = HEAD_TILE / 4;
  let head = group.y;
  let kv_head = head / (params.heads / params.kv_heads);
  let row = min(group.x * BLOCK_SIZE + lane, params.rows - 1);  // lanes beyond the last row repeat it, and drop it
  let pass_dim = group.z * HEAD_TILE;
  let slices = (params.head_dim + HEAD_TILE - 1) / HEAD_TILE;

  // The keys that some query of the block sees: first to last.
  var start = params.start_pos;
  var last = params.kv_len;
  var slot = 0u;
  if (params.kv_len_source != 0) {
    slot = params.slot;
    start = slots[slot].position;
    last = start + params.rows;
  }
  let written = last;
  let position = start + row;
  var first = 0u;
  if (params.is_causal != 0) { last = min(last, start + min((group.x + 1) * BLOCK_SIZE, params.rows)); }
  if (params.sliding_window != 0) { first = max(start + group.x * BLOCK_SIZE + 1, params.sliding_window) - params.sliding_window; }
  if (params.kv_layout == KV_RING) {
    first = max(first, max(written, params.capacity) - params.capacity);
  } else {
    last = min(last, params.capacity);
  }

  var query = array<vec4f, MOST_UNITS>();
  var sums = array<vec4f, MOST_UNITS>();
  var peak = LOWEST;
  var total = 0.0;
  for (var tile = first; tile < last; tile += tile_keys()) {
    let run = kv_run(slot, tile);
    let n = min(tile_keys(), last - tile);
    for (var slice = 0u; slice < slices; slice++) {
      workgroupBarrier();
      for (var i = lane; i < tile_keys() * units; i += BLOCK_SIZE) {
        let cached = min(kv_row(run, min(i / units, n - 1)), params.kv_rows - 1) * params.kv_heads + kv_head;
        k_tile[i] = k_four(cached, slice * HEAD_TILE + i % units * 4);
        if (slice == 0) { v_tile[i] = v_four(cached, pass_dim + i % units * 4); }
      }
      workgroupBarrier();
      if (slices > 1 || tile == first) {
        for (var u = 0u; u < units; u++) { query[u] = q_four(row, head, slice * HEAD_TILE + 4 * u); }
      }
      for (var four = 0u; 4 * four < n; four++) {
        let at = four * 4 * units;
        var s = vec4f();
        for (var u = 0u; u < units; u++) {
          let e = query[u];
          s += vec4f(dot(e, k_tile[at + u]), dot(e, k_tile[at + units + u]), dot(e, k_tile[at + 2 * units + u]), dot(e, k_tile[at + 3 * units + u]));
        }
        if (slice > 0) { s += scores[four * BLOCK_SIZE + lane]; }
        scores[four * BLOCK_SIZE + lane] = s;
      }
    }

    var best = peak;
    for (var four = 0u; 4 * four < n; four++) {
      let key = tile + 4 * four + vec4u(0, 1, 2, 3);
      var seen = key < vec4u(tile + n);
      if (params.is_causal != 0) { seen = seen & (key <= vec4u(position)); }
      if (params.sliding_window != 0) { seen = seen & (key + params.sliding_window > vec4u(position)); }
      let s = select(vec4f(LOWEST), softcapped(scores[four * BLOCK_SIZE + lane]), seen);
      scores[four * BLOCK_SIZE + lane] = s;
      best = max(best, max(max(s.x, s.y), max(s.z, s.w)));
    }
    let shrink = exp(peak - best);
    peak = best;
    total *= shrink;
    for (var u = 0u; u < units; u++) { sums[u] *= shrink; }
    for (var four = 0u; 4 * four < n; four++) {
      let s = scores[four * BLOCK_SIZE + lane];
      let p = select(vec4f(), exp(s - peak), s > vec4f(LOWEST));
      total += p.x + p.y + p.z + p.w;
      let at = four * 4 * units;
      for (var u = 0u; u < units; u++) {
        sums[u] += p.x * v_tile[at + u] + p.y * v_tile[at + units + u] + p.z * v_tile[at + 2 * units + u] + p.w * v_tile[at + 3 * units + u];
      }
    }
  }

  if (group.x * BLOCK_SIZE + lane >= params.rows) { return; }
  let inverse = select(0.0, 1 / total, total > 0);
  let to = (row * params.heads + head) * params.head_dim;
  for (var u = 0u; u < units; u++) {
    for (var j = 0u; j < 4; j++) {
      let d = pass_dim + 4 * u + j;
      if (d < params.head_dim) { out[to + d] = inverse * sums[u][j]; }
    }
  }
}
