// attention_streaming.wgsl: softmax(scale * q k^T) v, a workgroup a query and head, with hardly any workgroup memory.
//
// It walks the keys WORKGROUP_SIZE at a time with a running maximum and sum (online softmax): a lane a key for the
// scores, then lanes side by side over head_dim for the values. Sums in f32. Any kv_len.
// For what the tiled attention_prefill and attention_decode do not fit; slower than they are.
// Grid: rows * heads, folded into (x, y) beyond 65535. A query that sees no key gives zeros.
// Limits: head_dim 256, 2^32 - 1 elements of q and of k; heads a multiple of kv_heads.
// Replaces main of the old attention_streaming.wgsl and attention_streaming_f16kv.wgsl.

#import lane
#import reduce
#import slot
#import kv

override WORKGROUP_SIZE: u32 = 64;  // power of two, 64 or more
override F16_KV: bool = false;      // k and v are f16, two a word, each head rounded up to even

struct Params {
  rows: u32,            // queries
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  kv_len: u32,          // keys there are, if kv_len_source == 0
  kv_len_source: u32,   // 1: the positions of slots
  prefill: u32,         // 0: row r is slot r's, at its position. 1: rows are `slot`'s, from its position on
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

var<workgroup> query: array<f32, 256>;               // scaled
var<workgroup> weights: array<f32, WORKGROUP_SIZE>;  // of the keys at hand
var<workgroup> cached: array<u32, WORKGROUP_SIZE>;   // where their heads are in k and v, in words

struct Keys { slot: u32, first: u32, last: u32 }  // positions; last is behind the last one

// What a row sees.
fn keys_of(row: u32) -> Keys {
  var slot = 0u;
  var position = params.start_pos + row;
  var length = params.kv_len;
  if (params.kv_len_source != 0) {
    slot = select(row, params.slot, params.prefill != 0);
    let start = slots[slot].position;
    position = start + select(0, row, params.prefill != 0);
    length = start + select(1, params.rows, params.prefill != 0);
    if (params.prefill == 0 && slots[slot].stopped != 0) { return Keys(slot, 0, 0); }
  }
  var first = 0u;
  var last = length;
  if (params.is_causal != 0) { last = min(last, position + 1); }
  if (params.sliding_window != 0) { first = max(position + 1, params.sliding_window) - params.sliding_window; }
  if (params.kv_layout == KV_RING) {
    first = max(first, max(length, params.capacity) - params.capacity);
  } else {
    last = min(last, params.capacity);
  }
  return Keys(slot, first, last);
}

fn head_words() -> u32 { return select(params.head_dim, (params.head_dim + 1) / 2, F16_KV); }

// The query times the key at a place.
fn score_of(place: u32) -> f32 {
  var sum = 0.0;
  if (F16_KV) {
    for (var d = 0u; d < params.head_dim; d += 2) {
      let e = unpack2x16float(k[place + d / 2]);
      sum += query[d] * e.x;
      if (d + 1 < params.head_dim) { sum += query[d + 1] * e.y; }
    }
  } else {
    for (var d = 0u; d < params.head_dim; d++) { sum += query[d] * bitcast<f32>(k[place + d]); }
  }
  if (params.attn_softcap == 0) { return sum; }
  return params.attn_softcap * tanh(clamp(sum / params.attn_softcap, -10.0, 10.0));
}

// Dimension d of the value at a place.
fn value_of(place: u32, d: u32) -> f32 {
  if (d >= params.head_dim) { return 0; }
  if (F16_KV) { return unpack2x16float(v[place + d / 2])[d % 2]; }
  return bitcast<f32>(v[place + d]);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let index = group.id.y * group.count.x + group.id.x;
  let row = index / params.heads;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  let kv_head = index % params.heads / (params.heads / params.kv_heads);
  let start = index * params.head_dim;
  for (var d = at.lane; d < params.head_dim; d += WORKGROUP_SIZE) { query[d] = params.scale * q[start + d]; }

  let keys = keys_of(row);
  var peak = LOWEST;
  var total = 0.0;    // of this lane's keys
  var sums = vec4f();  // of dimensions lane, lane + WORKGROUP_SIZE, …
  for (var key = keys.first; key < keys.last; key += WORKGROUP_SIZE) {
    let n = min(WORKGROUP_SIZE, keys.last - key);
    workgroupBarrier();
    var score = LOWEST;
    if (at.lane < n) {
      let cache_row = min(kv_row(kv_run(keys.slot, key), at.lane), params.kv_rows - 1);
      let place = (cache_row * params.kv_heads + kv_head) * head_words();
      cached[at.lane] = place;
      score = score_of(place);
    }
    let best = max(peak, workgroup_max(score, at));
    let weight = select(0.0, exp(score - best), at.lane < n);
    weights[at.lane] = weight;
    workgroupBarrier();
    let shrink = exp(peak - best);
    peak = best;
    total = total * shrink + weight;
    sums *= shrink;
    for (var i = 0u; i < n; i++) {
      let place = cached[i];
      let d = at.lane;
      sums += weights[i] * vec4f(value_of(place, d), value_of(place, d + WORKGROUP_SIZE), value_of(place, d + 2 * WORKGROUP_SIZE),
                                 value_of(place, d + 3 * WORKGROUP_SIZE));
    }
  }

  total = workgroup_sum(total, at);
  let inverse = select(0.0, 1 / total, total > 0);
  for (var i = 0u; i < 4; i++) {
    let d = at.lane + i * WORKGROUP_SIZE;
    if (d < params.head_dim) { out[start + d] = inverse * sums[i]; }
  }
}
