// split_qkv.wgsl: rows of [q | k | v] taken apart: q as it is, k and v into a KV cache or plainly beside it;
// with QK_NORM, each head of q and k is x / sqrt(mean(x^2) + eps) * weight first; with ROPE, q and k are rotated then.
//
// A lane writes four words: an element each, or two of K or V as f16, or four of q8_0. Grid: rows times the words of q, k and v / 4 /
// WORKGROUP_SIZE, rounded up, or with QK_NORM or Q8_OUT times their heads; folded into (x, y) beyond 65535. Not written: K and V
// at a position the cache has no row for, and of a stopped slot's row in a decode step (prefill == 0).
// Limits: QK_NORM and Q8_OUT take heads of up to 4 * WORKGROUP_SIZE elements.
// Replaces main and split_f16 of the old split_qkv.wgsl.

#import lane
#import reduce
#import slot
#import kv
#import rope

override WORKGROUP_SIZE: u32 = 64;
override F16_OUT: bool = false;  // k and v are f16, two a word, each head rounded up to even
override Q8_OUT: bool = false;   // k and v are of q8_0, as kv.wgsl has it; heads of a multiple of 32, and no plain k and v
override ROPE: bool = false;
override QK_NORM: bool = false;

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
  eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;          // [rows, q_size + k_size + v_size]
@group(0) @binding(2) var<storage, read> rope: array<f32>;         // [2, max_seq, rotary_dim / 2]: cosines, then sines
@group(0) @binding(3) var<storage, read> norms: array<f32>;        // [2, head_dim]: weights of q's norm, then of k's
@group(0) @binding(4) var<storage, read> slots: array<Slot>;       // [slots], unread if from_slots == 0
@group(0) @binding(5) var<storage, read> block_table: array<u32>;  // [slots, capacity / page_size], read if paged
@group(0) @binding(6) var<storage, read_write> q: array<f32>;      // [rows, q_size]
@group(0) @binding(7) var<storage, read_write> k: array<u32>;      // [kv_rows, kv_heads, head_dim] f32, f16 or q8_0
@group(0) @binding(8) var<storage, read_write> v: array<u32>;      // [kv_rows, kv_heads, head_dim] f32, f16 or q8_0

var<workgroup> elements: array<f32, select(1, 4 * WORKGROUP_SIZE, Q8_OUT)>;  // of a head of K or V

const KV_PLAIN = 3;
const NO_ROW = 0xffffffff;

fn rope_at(i: u32) -> f32 { return rope[i]; }

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

// How the elements of a head are normed: element i times scale * norms[first + i].
struct Norm { scale: f32, first: u32 }

fn normed(base: u32, i: u32, norm: Norm) -> f32 {
  if (QK_NORM) { return qkv[base + i] * norm.scale * norms[norm.first + i]; }
  return qkv[base + i];
}

// Element i of the head of dim elements that starts at base: of q or k normed, and turned by its position's angle; 0
// beyond the head.
fn element(base: u32, i: u32, dim: u32, position: u32, of_v: bool, norm: Norm) -> f32 {
  if (i >= dim) { return 0; }
  if (of_v) { return qkv[base + i]; }
  let x = normed(base, i, norm);
  if (!ROPE | (i >= params.rotary_dim)) { return x; }
  let turn = turn_of(i, position);
  return x * turn.cos + normed(base, turn.other, norm) * turn.sin;
}

// The largest magnitude of the 32 elements from i on, / 127: what their integers are multiples of.
fn q8_step(i: u32) -> f32 {
  var most = 0.0;
  for (var j = 0u; j < 32; j++) { most = max(most, abs(elements[i + j])); }
  return most / 127;
}
fn q8_four(i: u32) -> u32 {
  let step = q8_step(i & ~31u);
  let inverse = select(0.0, 1 / step, step > 0);
  return pack4xI8(vec4i(round(inverse * vec4f(elements[i], elements[i + 1], elements[i + 2], elements[i + 3]))));
}

// Head `head` of row `to` of K or V, whose elements lie in the workgroup's.
fn write_q8(to: u32, head: u32, of_v: bool, at: Lane) {
  let dim = params.head_dim;
  let place = to * (params.k_size / dim) + head;
  for (var w = at.lane; w < dim / 4; w += WORKGROUP_SIZE) {
    let four = q8_four(4 * w);
    if (of_v) { v[place * (dim / 4) + w] = four; } else { k[place * (dim / 4) + w] = four; }
  }
  for (var s = at.lane; s < q8_scale_words(dim); s += WORKGROUP_SIZE) {
    let scales = kv_halves(vec2f(q8_step(64 * s), select(0.0, q8_step(min(64 * s + 32, dim - 32)), 64 * s + 32 < dim)));
    let word = q8_scale_word(params.kv_rows * (params.k_size / dim), dim, place, 64 * s);
    if (of_v) { v[word] = scales; } else { k[word] = scales; }
  }
}

fn words_of(size: u32) -> u32 { return select(size, heads_of(size) * ((dim_of(size) + 1) / 2), F16_OUT); }

// Word w of a row's K and V, in that order, whose elements start at base.
fn kv_word(base: u32, w: u32, position: u32, norm: Norm) -> u32 {
  let k_words = words_of(params.k_size);
  let of_k = w < k_words;
  let dim = dim_of(select(params.v_size, params.k_size, of_k));
  let head_words = select(dim, (dim + 1) / 2, F16_OUT);
  let n = w - select(k_words, 0, of_k);
  let i = n % head_words;
  let head = base + select(params.k_size, 0, of_k) + n / head_words * dim;
  if (!F16_OUT) { return bitcast<u32>(element(head, i, dim, position, !of_k, norm)); }
  return kv_halves(vec2f(element(head, 2 * i, dim, position, !of_k, norm),
                    element(head, 2 * i + 1, dim, position, !of_k, norm)));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let k_words = words_of(params.k_size);
  let v_words = words_of(params.v_size);
  let words = params.q_size + k_words + v_words;
  let q_heads = heads_of(params.q_size);
  let k_heads = heads_of(params.k_size);
  // A row's, each of 4 * WORKGROUP_SIZE words at most, or of a head.
  var groups = (words + 4 * WORKGROUP_SIZE - 1) / (4 * WORKGROUP_SIZE);
  if (QK_NORM | Q8_OUT) { groups = q_heads + k_heads + heads_of(params.v_size); }
  let g = group.id.y * group.count.x + group.id.x;
  let row = g / groups;
  if (row >= params.rows) { return; }

  var slot = 0u;
  var position = params.start_pos + row;
  if (params.from_slots != 0) {
    slot = select(row, params.slot, params.prefill != 0);
    position = slots[slot].position + select(0, row, params.prefill != 0);
  }
  let to = cache_row(row, slot, position);
  let start = row * (params.q_size + params.k_size + params.v_size);
  let q_dim = dim_of(params.q_size);

  // This workgroup's words of the row.
  var begin = g % groups * 4 * WORKGROUP_SIZE;
  var end = words;
  var norm = Norm();
  if (QK_NORM | Q8_OUT) {
    let head = g % groups;
    let dim = params.head_dim;
    if (QK_NORM) {
      var squares = 0.0;
      for (var i = at.lane; i < dim; i += WORKGROUP_SIZE) {
        let x = qkv[start + head * dim + i];
        squares += x * x;
      }
      let sum = workgroup_sum(squares, at);
      norm = Norm(inverseSqrt(sum / f32(dim) + params.eps), select(dim, 0, head < q_heads));
    }
    if (Q8_OUT & (head >= q_heads)) {
      let of_v = head >= q_heads + k_heads;
      for (var i = at.lane; i < dim; i += WORKGROUP_SIZE) { elements[i] = element(start + head * dim, i, dim, position, of_v, norm); }
      workgroupBarrier();
      if (to != NO_ROW) { write_q8(to, head - q_heads - select(0, k_heads, of_v), of_v, at); }
      return;
    }
    let head_words = select(dim, (dim + 1) / 2, F16_OUT);
    begin = select(params.q_size + (head - q_heads) * head_words, head * dim, head < q_heads);
    end = begin + select(head_words, dim, head < q_heads);
  }
  if (to == NO_ROW) { end = min(end, params.q_size); }

  // A workgroup apart, so that lanes read and write side by side; all reads before the first write.
  let first = begin + at.lane;
  var four = vec4u();
  for (var j = 0u; j < 4; j++) {
    let w = first + j * WORKGROUP_SIZE;
    if (w >= end) { break; }
    if (w < params.q_size) {
      let i = w % q_dim;
      four[j] = bitcast<u32>(element(start + w - i, i, q_dim, position, false, norm));
    } else {
      four[j] = kv_word(start + params.q_size, w - params.q_size, position, norm);
    }
  }
  for (var j = 0u; j < 4; j++) {
    let w = first + j * WORKGROUP_SIZE;
    if (w >= end) { break; }
    let of_kv = w - params.q_size;
    if (w < params.q_size) {
      q[row * params.q_size + w] = bitcast<f32>(four[j]);
    } else if (of_kv < k_words) {
      k[to * k_words + of_kv] = four[j];
    } else {
      v[to * v_words + of_kv - k_words] = four[j];
    }
  }
}
