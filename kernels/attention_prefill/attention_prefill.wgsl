// attention_prefill.wgsl: softmax(scale * q k^T) v for many queries of one sequence, causal or not.
//
// A lane serves a query of one head, a workgroup BLOCK_SIZE of them, heads that share keys side by side, and walks the keys a
// tile at a time with a running maximum and sum (online softmax; FlashAttention, Dao et al., 2022). HEAD_TILE dimensions of the output stay in registers:
// a larger head_dim takes several passes, each with scores of its own. Sums in f32. Any kv_len.
// With MATRIX four subgroups of 32 lanes serve 16 queries each by products of f16 matrices. They walk the keys twice, first
// for the largest score of each query: so the sums, which lie in matrices, are never scaled anew.
// Grid: (blocks of queries of kv heads, kv_heads, passes); with MATRIX (blocks of queries, heads, 1). A query that sees no key gives zeros.
// Limits: head_dim 256, 65,535 heads, a multiple of kv_heads.
// Replaces main and attention_decode of the old attention.wgsl, attention_f16kv.wgsl, attention_small.wgsl, attention_small_f16kv.wgsl.

#import lane
#import slot
#import kv
#import matrix
#import half

override F16_KV: bool = false;       // k and v are f16, two a word, each head rounded up to even
override Q8_KV: bool = false;        // k and v are of q8_0, as kv.wgsl has it; heads of a multiple of 32
override SMALL_TILES: bool = false;  // tiles of 8 keys instead of 16
override BLOCK_SIZE: u32 = 64;       // lanes of a workgroup: 32 or 64; with MATRIX 128
override HEAD_TILE: u32 = 64;        // dimensions held at a time: 32 or 64; with MATRIX all of them, 64 or 128
override USE_SUBGROUPS: bool = false; // lanes load a part each of what all need, 8 or more a subgroup: where loads cost more than arithmetic
override MATRIX: bool = false;       // q, the weights of the keys, and of q8_0 k and v, are rounded to f16: for devices with subgroup matrices

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
@group(0) @binding(2) var<storage, read> k: array<u32>;            // [kv_rows, kv_heads, head_dim] f32, f16 or q8_0
@group(0) @binding(3) var<storage, read> v: array<u32>;            // [kv_rows, kv_heads, head_dim] f32, f16 or q8_0
@group(0) @binding(4) var<storage, read> slots: array<Slot>;       // [slots], unread if kv_len_source == 0
@group(0) @binding(5) var<storage, read> block_table: array<u32>;  // [slots, capacity / page_size], read if paged
@group(0) @binding(6) var<storage, read_write> out: array<f32>;    // [rows, heads, head_dim]

const WORKGROUP_SIZE = 64u;  // lane wants the name, for how many subgroups there are, which nobody asks here
const LOWEST = -1e38;  // below any score, and finite when one is subtracted from it
const MOST_UNITS = 16; // HEAD_TILE / 4 at most

var<workgroup> k_tile: array<vec4f, select(4 * HEAD_TILE, 1, MATRIX)>;  // [16, HEAD_TILE / 4]
var<workgroup> v_tile: array<vec4f, select(4 * HEAD_TILE, 1, MATRIX)>;  // [16, HEAD_TILE / 4]
// [4, BLOCK_SIZE] a lane's own scores of four keys: here and not in registers, so that the loops over them need no unrolling.
var<workgroup> scores: array<vec4f, select(4 * BLOCK_SIZE, 1, MATRIX)>;

// MATRIX: rows of KEYS keys, k or v, of f16, and behind them scores [SIDE, KEYS], f32, whose place the keys' weights take, f16;
// before the first key q. Rows have 16 bytes of padding, which spread the banks. Two workgroups of it fit into the 48 KB that
// NVIDIA's driver gives to those of a multiprocessor; more keys at a time leave one. Without MATRIX, 16 x 16 f32 for Tint.
const SIDE = 64u;  // queries
const KEYS = 32u;  // at a time: 16 for each of the two lanes of a query
const SCORE_PITCH = 9u;
var<workgroup> tile: array<vec4u, select(64, max(SIDE * (HEAD_TILE / 8 + 1), KEYS * (HEAD_TILE / 8 + 1) + SIDE * SCORE_PITCH), MATRIX)>;

fn tile_keys() -> u32 { return select(16u, 8u, SMALL_TILES); }
fn head_words() -> u32 { return select(select(params.head_dim, (params.head_dim + 1) / 2, F16_KV), params.head_dim / 4, Q8_KV); }

// Dimensions d to d + 3 of head `head` of the cache, d a multiple of 4; zeros beyond head_dim.
fn q8_heads() -> u32 { return params.kv_rows * params.kv_heads; }
fn k_four(head: u32, d: u32) -> vec4f {
  let at = head * head_words();
  if (Q8_KV) {
    let i = min(d, params.head_dim - 4);
    let scale = q8_scale(k[q8_scale_word(q8_heads(), params.head_dim, head, i)], i);
    return select(vec4f(), scale * vec4f(unpack4xI8(k[at + i / 4])), d < params.head_dim);
  }
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
  if (Q8_KV) {
    let i = min(d, params.head_dim - 4);
    let scale = q8_scale(v[q8_scale_word(q8_heads(), params.head_dim, head, i)], i);
    return select(vec4f(), scale * vec4f(unpack4xI8(v[at + i / 4])), d < params.head_dim);
  }
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
  return e;
}

fn softcapped(score: vec4f) -> vec4f {
  if (params.attn_softcap == 0) { return score; }
  return params.attn_softcap * tanh(clamp(score / params.attn_softcap, vec4f(-10), vec4f(10)));
}

// The keys that some query of a block sees, first to last, and where its first query is.
struct Seen { slot: u32, start: u32, first: u32, last: u32 }

fn seen_from(row: u32, rows: u32) -> Seen {
  var start = params.start_pos;
  var last = params.kv_len;
  var slot = 0u;
  if (params.kv_len_source != 0) {
    slot = params.slot;
    start = slots[slot].position;
    last = start + params.rows;
  }
  let written = last;
  var first = 0u;
  if (params.is_causal != 0) { last = min(last, start + min(row + rows, params.rows)); }
  if (params.sliding_window != 0) { first = max(start + row + 1, params.sliding_window) - params.sliding_window; }
  if (params.kv_layout == KV_RING) {
    first = max(first, max(written, params.capacity) - params.capacity);
  } else {
    last = min(last, params.capacity);
  }
  return Seen(slot, start, first, last);
}

// Whether the query at `position` sees four keys from `key` on, of those before `end`.
fn visible(key: vec4u, end: u32, position: u32) -> vec4<bool> {
  var seen = key < vec4u(end);
  if (params.is_causal != 0) { seen = seen & (key <= vec4u(position)); }
  if (params.sliding_window != 0) { seen = seen & (key + params.sliding_window > vec4u(position)); }
  return seen;
}

fn lanes(group: vec3u, at: Lane) {
  let lane = at.lane;
  let units = HEAD_TILE / 4;
  let kv_head = group.y;
  let sharing = params.heads / params.kv_heads;
  let begin = group.x * BLOCK_SIZE;
  let first_row = begin / sharing;
  let row = (begin + lane) / sharing;
  let head = kv_head * sharing + (begin + lane) % sharing;
  let pass_dim = group.z * HEAD_TILE;
  let slices = (params.head_dim + HEAD_TILE - 1) / HEAD_TILE;

  let keys = seen_from(first_row, (begin + BLOCK_SIZE - 1) / sharing + 1 - first_row);
  let position = keys.start + row;
  var query = array<vec4f, MOST_UNITS>();
  var sums = array<vec4f, MOST_UNITS>();
  var peak = LOWEST;
  var total = 0.0;
  for (var from_key = keys.first; from_key < keys.last; from_key += tile_keys()) {
    let run = kv_run(keys.slot, from_key);
    let n = min(tile_keys(), keys.last - from_key);
    for (var slice = 0u; slice < slices; slice++) {
      workgroupBarrier();
      for (var i = lane; i < tile_keys() * units; i += BLOCK_SIZE) {
        let cached = min(kv_row(run, min(i / units, n - 1)), params.kv_rows - 1) * params.kv_heads + kv_head;
        k_tile[i] = k_four(cached, slice * HEAD_TILE + i % units * 4);
        if (slice == 0) { v_tile[i] = v_four(cached, pass_dim + i % units * 4); }
      }
      workgroupBarrier();
      if (slices > 1 || from_key == keys.first) {
        for (var u = 0u; u < units; u++) { query[u] = params.scale * q_four(min(row, params.rows - 1), head, slice * HEAD_TILE + 4 * u); }
      }
      for (var four = 0u; 4 * four < n; four++) {
        let first = four * 4 * units;
        var s = vec4f();
        if (USE_SUBGROUPS) {
          for (var u = 0u; u < units; u += 8) {
            let own = first + u + (sublane(at) & 7);
            let k0 = first_lanes_vec4f(k_tile[own]);
            let k1 = first_lanes_vec4f(k_tile[own + units]);
            let k2 = first_lanes_vec4f(k_tile[own + 2 * units]);
            let k3 = first_lanes_vec4f(k_tile[own + 3 * units]);
            for (var i = 0u; i < 8; i++) {
              let e = query[u + i];
              s += vec4f(dot(e, k0[i]), dot(e, k1[i]), dot(e, k2[i]), dot(e, k3[i]));
            }
          }
        } else {
          for (var u = 0u; u < units; u++) {
            let e = query[u];
            s += vec4f(dot(e, k_tile[first + u]), dot(e, k_tile[first + units + u]), dot(e, k_tile[first + 2 * units + u]), dot(e, k_tile[first + 3 * units + u]));
          }
        }
        if (slice > 0) { s += scores[four * BLOCK_SIZE + lane]; }
        scores[four * BLOCK_SIZE + lane] = s;
      }
    }

    var best = peak;
    for (var four = 0u; 4 * four < n; four++) {
      let seen = visible(from_key + 4 * four + vec4u(0, 1, 2, 3), from_key + n, position);
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
      let first = four * 4 * units;
      if (USE_SUBGROUPS) {
        for (var u = 0u; u < units; u += 8) {
          let own = first + u + (sublane(at) & 7);
          let v0 = first_lanes_vec4f(v_tile[own]);
          let v1 = first_lanes_vec4f(v_tile[own + units]);
          let v2 = first_lanes_vec4f(v_tile[own + 2 * units]);
          let v3 = first_lanes_vec4f(v_tile[own + 3 * units]);
          for (var i = 0u; i < 8; i++) { sums[u + i] += p.x * v0[i] + p.y * v1[i] + p.z * v2[i] + p.w * v3[i]; }
        }
      } else {
        for (var u = 0u; u < units; u++) {
          sums[u] += p.x * v_tile[first + u] + p.y * v_tile[first + units + u] + p.z * v_tile[first + 2 * units + u] + p.w * v_tile[first + 3 * units + u];
        }
      }
    }
  }

  if (row >= params.rows) { return; }
  let inverse = select(0.0, 1 / total, total > 0);
  let to = (row * params.heads + head) * params.head_dim;
  for (var u = 0u; u < units; u++) {
    for (var j = 0u; j < 4; j++) {
      let d = pass_dim + 4 * u + j;
      if (d < params.head_dim) { out[to + d] = inverse * sums[u][j]; }
    }
  }
}

// Copies KEYS rows of k or v to the tile, zeros beyond head_dim; keys from n on repeat the one before. All is read before
// any of it is awaited.
fn stage(of_v: bool, run: KvRun, n: u32, kv_head: u32, lane: u32) {
  let units = HEAD_TILE / 8;
  let d = lane % units * 8;
  let last = head_words() - 1;
  var e = array<vec4u, 4>();
  for (var i = 0u; i < HEAD_TILE / 32; i++) {
    let key = min((lane + i * BLOCK_SIZE) / units, n - 1);
    let head = min(kv_row(run, key), params.kv_rows - 1) * params.kv_heads + kv_head;
    let at = head * head_words();
    var word = vec4u(at) + min(d / 2 + vec4u(0, 1, 2, 3), vec4u(last));
    if (Q8_KV) {  // eight integers, and their scale twice
      let dim = min(d, params.head_dim - 8);
      word = vec4u(at + dim / 4, at + dim / 4 + 1, vec2u(q8_scale_word(q8_heads(), params.head_dim, head, dim)));
    }
    if (of_v) {
      e[i] = vec4u(v[word.x], v[word.y], v[word.z], v[word.w]);
    } else {
      e[i] = vec4u(k[word.x], k[word.y], k[word.z], k[word.w]);
    }
  }
  let inside = half_mask(max(d, params.head_dim) - d);
  for (var i = 0u; i < HEAD_TILE / 32; i++) {
    var eight = e[i];
    if (Q8_KV) {
      let scale = q8_scale(eight.z, d);
      eight = vec4u(rounded_halves(scale * vec4f(unpack4xI8(eight.x))), rounded_halves(scale * vec4f(unpack4xI8(eight.y))));
    }
    tile[(lane + i * BLOCK_SIZE) / units * (units + 1) + lane % units] = eight & inside;
  }
}

fn matrices(group: vec3u, at: Lane) {
  let pitch = HEAD_TILE / 8 + 1;
  let units = HEAD_TILE / 8;
  let head = group.y;
  let kv_head = head / (params.heads / params.kv_heads);
  let block_row = group.x * SIDE;
  let keys = seen_from(block_row, SIDE);
  let own = 16 * matrix_subgroup(at);               // the subgroup's first query of the block
  let own_scores = KEYS * pitch + own * SCORE_PITCH;
  // Two lanes share a query, half of the keys each.
  let half = matrix_lane(at) % 2;
  let query_row = matrix_lane(at) / 2;
  let row = min(block_row + own + query_row, params.rows - 1);
  let position = keys.start + row;

  for (var i = at.lane; i < SIDE * units; i += BLOCK_SIZE) {
    let m = min(block_row + i / units, params.rows - 1);
    let d = i % units * 8;
    tile[i / units * pitch + i % units] = vec4u(rounded_halves(q_four(m, head, d)), rounded_halves(q_four(m, head, d + 4)));
  }
  workgroupBarrier();
  // Sixteen dimensions a matrix. Each has a name: drivers put what a loop indexes into memory.
  let own_query = own * pitch;
  let q0 = load_left(own_query + 0, pitch);
  let q1 = load_left(own_query + 2, pitch);
  let q2 = load_left(own_query + 4, pitch);
  let q3 = load_left(own_query + 6, pitch);
  var q4 = Left(); var q5 = Left(); var q6 = Left(); var q7 = Left();
  if (HEAD_TILE > 64) {
    q4 = load_left(own_query + 8, pitch);
    q5 = load_left(own_query + 10, pitch);
    q6 = load_left(own_query + 12, pitch);
    q7 = load_left(own_query + 14, pitch);
  }
  var s0 = Sums(); var s1 = Sums(); var s2 = Sums(); var s3 = Sums();
  var s4 = Sums(); var s5 = Sums(); var s6 = Sums(); var s7 = Sums();
  var peak = LOWEST;
  var total = 0.0;
  for (var walk = 0; walk < 2; walk++) {
    for (var from_key = keys.first; from_key < keys.last; from_key += KEYS) {
      let run = kv_run(keys.slot, from_key);
      let n = min(KEYS, keys.last - from_key);
      workgroupBarrier();
      stage(false, run, n, kv_head, at.lane);
      workgroupBarrier();
      for (var j = 0u; j < KEYS / 16; j++) {
        let base = 16 * j * pitch;
        var s = multiply_add(q0, load_right_columns(base, pitch), Sums());
        s = multiply_add(q1, load_right_columns(base + 2, pitch), s);
        s = multiply_add(q2, load_right_columns(base + 4, pitch), s);
        s = multiply_add(q3, load_right_columns(base + 6, pitch), s);
        if (HEAD_TILE > 64) {
          s = multiply_add(q4, load_right_columns(base + 8, pitch), s);
          s = multiply_add(q5, load_right_columns(base + 10, pitch), s);
          s = multiply_add(q6, load_right_columns(base + 12, pitch), s);
          s = multiply_add(q7, load_right_columns(base + 14, pitch), s);
        }
        store_sums(own_scores + 4 * j, SCORE_PITCH, s);
      }
      workgroupBarrier();
      let own_fours = own_scores + query_row * SCORE_PITCH + 4 * half;
      for (var i = 0u; i < 4; i += 2) {
        let key = 16 * half + 4 * i;
        var s = array<vec4f, 2>();
        for (var j = 0u; j < 2; j++) {
          let e = softcapped(params.scale * bitcast<vec4f>(tile[own_fours + i + j]));
          s[j] = select(vec4f(LOWEST), e, visible(from_key + key + 4 * j + vec4u(0, 1, 2, 3), from_key + n, position));
        }
        if (walk == 0) {
          let most = max(s[0], s[1]);
          peak = max(peak, max(max(most.x, most.y), max(most.z, most.w)));
        } else {
          let w0 = select(vec4f(), exp(s[0] - peak), s[0] > vec4f(LOWEST));
          let w1 = select(vec4f(), exp(s[1] - peak), s[1] > vec4f(LOWEST));
          total += dot(w0 + w1, vec4f(1));
          tile[own_fours + i / 2] = vec4u(rounded_halves(w0), rounded_halves(w1));
        }
      }
      if (walk == 1) {
        stage(true, run, n, kv_head, at.lane);
        workgroupBarrier();
        for (var j = 0u; j < KEYS / 16; j++) {
          let weights = load_left(own_scores + 4 * j, SCORE_PITCH);
          let base = 16 * j * pitch;
          s0 = multiply_add(weights, load_right_rows(base + 0, pitch), s0);
          s1 = multiply_add(weights, load_right_rows(base + 2, pitch), s1);
          s2 = multiply_add(weights, load_right_rows(base + 4, pitch), s2);
          s3 = multiply_add(weights, load_right_rows(base + 6, pitch), s3);
          if (HEAD_TILE > 64) {
            s4 = multiply_add(weights, load_right_rows(base + 8, pitch), s4);
            s5 = multiply_add(weights, load_right_rows(base + 10, pitch), s5);
            s6 = multiply_add(weights, load_right_rows(base + 12, pitch), s6);
            s7 = multiply_add(weights, load_right_rows(base + 14, pitch), s7);
          }
        }
      }
    }
    peak = max(peak, matrix_xor_f32(peak, 1));
  }
  total += matrix_xor_f32(total, 1);
  let inverse = select(0.0, 1 / total, total > 0);
  let end = select(0, params.head_dim, block_row + own + query_row < params.rows);
  let mine = own_scores + query_row * SCORE_PITCH + 2 * half;
  let to = (row * params.heads + head) * params.head_dim;
  store_sixteen(s0, own_scores, mine, to, 0 + 8 * half, end, inverse);
  store_sixteen(s1, own_scores, mine, to, 16 + 8 * half, end, inverse);
  store_sixteen(s2, own_scores, mine, to, 32 + 8 * half, end, inverse);
  store_sixteen(s3, own_scores, mine, to, 48 + 8 * half, end, inverse);
  if (HEAD_TILE > 64) {
    store_sixteen(s4, own_scores, mine, to, 64 + 8 * half, end, inverse);
    store_sixteen(s5, own_scores, mine, to, 80 + 8 * half, end, inverse);
    store_sixteen(s6, own_scores, mine, to, 96 + 8 * half, end, inverse);
    store_sixteen(s7, own_scores, mine, to, 112 + 8 * half, end, inverse);
  }
}

// A matrix of the output by way of the tile, where each lane takes eight dimensions, `dim` and on, of its query.
fn store_sixteen(sums: Sums, own: u32, mine: u32, to: u32, dim: u32, end: u32, inverse: f32) {
  workgroupBarrier();
  store_sums(own, SCORE_PITCH, sums);
  workgroupBarrier();
  for (var i = 0u; dim + i < min(dim + 8, end); i++) { out[to + dim + i] = inverse * bitcast<f32>(tile[mine + i / 4][i % 4]); }
}

@compute @workgroup_size(BLOCK_SIZE)
fn main(group: Group, at: Lane) {
  if (MATRIX) { matrices(group.id, at); } else { lanes(group.id, at); }
}
