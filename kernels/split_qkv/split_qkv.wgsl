// split_qkv.wgsl: rows of [q | k | v] taken apart: q as it is, k and v into a KV cache or plainly beside it;
// with ROPE, q and k are rotated on the way.
//
// One workgroup per row and head (of q, then k, then v); a lane takes two adjacent elements, one word of f16.
// Grid: rows * heads of all three, folded into (x, y) beyond 65535. Any sizes. Not written: K and V at a
// position the cache has no row for, and of a stopped slot's row in a decode step (prefill == 0).
// Replaces main and split_f16 of the old split_qkv.wgsl.

#import lane
#import slot
#import kv

override WORKGROUP_SIZE: u32 = 64;
override F16_OUT: bool = false;  // k and v are f16, two a word, each head rounded up to even
override ROPE: bool = false;

struct Params {
  rows: u32,
  q_size: u32,
  k_size: u32,
  v_size: u32,
  head_dim: u32,     // 0: q, k and v are one head each
  from_slots: u32,   // 0: row r is position start_pos + r of slot 0
  prefill: u32,      // 0: row r is slot r's, at its position. 1: rows are `slot`'s, from its position on
  slot: u32,
  start_pos: u32,
  kv_layout: u32,    // of kv.wgsl, or 3: row r of k and v is row r
  kv_rows: u32,
  capacity: u32,
  page_size: u32,
  max_seq: u32,
  rotary_dim: u32,   // even, <= head_dim
  interleaved: u32,  // 1: pairs (2i, 2i + 1), 0: (i, i + rotary_dim / 2)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;          // [rows, q_size + k_size + v_size]
@group(0) @binding(2) var<storage, read> cosines: array<f32>;    // [max_seq, rotary_dim / 2]
@group(0) @binding(3) var<storage, read> sines: array<f32>;    // [max_seq, rotary_dim / 2]
@group(0) @binding(4) var<storage, read> slots: array<Slot>;       // [slots], unread if from_slots == 0
@group(0) @binding(5) var<storage, read> block_table: array<u32>;  // [slots, capacity / page_size], read if paged
@group(0) @binding(6) var<storage, read_write> q: array<f32>;      // [rows, q_size]
@group(0) @binding(7) var<storage, read_write> k: array<u32>;      // [kv_rows, kv_heads, head_dim] f32 or f16
@group(0) @binding(8) var<storage, read_write> v: array<u32>;      // [kv_rows, kv_heads, head_dim] f32 or f16

const KV_PLAIN = 3;
const NO_ROW = 0xffffffff;

fn heads_of(size: u32) -> u32 { return select(size / max(params.head_dim, 1), 1, params.head_dim == 0); }
fn dim_of(size: u32) -> u32 { return select(params.head_dim, size, params.head_dim == 0); }

// Where row's K and V go, or NO_ROW.
fn cache_row(row: u32, slot: u32, position: u32) -> u32 {
  if (params.kv_layout == KV_PLAIN) { return row; }
  if (params.from_slots != 0 && params.prefill == 0 && slots[slot].stopped != 0) { return NO_ROW; }
  if (params.kv_layout != KV_RING && position >= params.capacity) { return NO_ROW; }
  let to = kv_row(kv_run(slot, position), 0);
  return select(NO_ROW, to, to < params.kv_rows);
}

// Element i of the head of dim elements that starts at base, turned by its position's angle; 0 beyond the head.
fn element(base: u32, i: u32, dim: u32, position: u32, turned: bool) -> f32 {
  if (i >= dim) { return 0; }
  let x = qkv[base + i];
  if (!ROPE | !turned | (i >= params.rotary_dim)) { return x; }
  let half = params.rotary_dim / 2;
  var pair = i / 2;
  var other = i ^ 1;
  if (params.interleaved == 0) {
    pair = select(i - half, i, i < half);
    other = select(i - half, i + half, i < half);
  }
  let angle = min(position, params.max_seq - 1) * half + pair;
  let y = qkv[base + other];
  return x * cosines[angle] + select(y, -y, i < other) * sines[angle];
}

fn pack(value: vec2f) -> u32 { return pack2x16float(clamp(value, vec2f(-65504), vec2f(65504))); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let q_heads = heads_of(params.q_size);
  let k_heads = heads_of(params.k_size);
  let per_row = q_heads + k_heads + heads_of(params.v_size);
  let g = group.id.y * group.count.x + group.id.x;
  let row = g / per_row;
  if (row >= params.rows) { return; }

  var slot = 0u;
  var position = params.start_pos + row;
  if (params.from_slots != 0) {
    slot = select(row, params.slot, params.prefill != 0);
    position = slots[slot].position + select(0, row, params.prefill != 0);
  }
  let start = row * (params.q_size + params.k_size + params.v_size);
  let head = g % per_row;

  if (head < q_heads) {
    let dim = dim_of(params.q_size);
    for (var i = at.lane; i < dim; i += WORKGROUP_SIZE) {
      q[row * params.q_size + head * dim + i] = element(start + head * dim, i, dim, position, true);
    }
    return;
  }

  let to = cache_row(row, slot, position);
  if (to == NO_ROW) { return; }
  let of_k = head < q_heads + k_heads;
  let size = select(params.v_size, params.k_size, of_k);
  let dim = dim_of(size);
  let kv_head = head - q_heads - select(k_heads, 0, of_k);
  let base = start + params.q_size + select(params.k_size, 0, of_k) + kv_head * dim;
  let words = select(dim, (dim + 1) / 2, F16_OUT);  // of a head
  for (var i = at.lane; i < words; i += WORKGROUP_SIZE) {
    var word = 0u;
    if (F16_OUT) {
      word = pack(vec2f(element(base, 2 * i, dim, position, of_k), element(base, 2 * i + 1, dim, position, of_k)));
    } else {
      word = bitcast<u32>(element(base, i, dim, position, of_k));
    }
    let there = (to * heads_of(size) + kv_head) * words + i;
    if (of_k) { k[there] = word; } else { v[there] = word; }
  }
}
