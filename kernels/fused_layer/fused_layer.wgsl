// fused_layer.wgsl: what a decode step does between two attentions, in one dispatch: h = x + alpha O a of what attention found, y = h + alpha
// D (act(G n) * (U n)) with n = h / rms(h) * ffn_norm, and qkv = W m with m = y / rms(y) * attn_norm, of the next layer. With ATTENTION layer
// after layer so, from x on, and between them attention as fused_attention.wgsl has it.
//
// Products, one after the other, of a vector that all workgroups need and that each makes a part of. What one makes it rounds to
// integers (shared/int16.wgsl) and sends through `exchange`, then adds to a count, which one lane of each waits for before all read. Reading
// every word by an atomic load took a quarter of the kernel's time; so what is sent are plain vectors of sixteen bytes, each with a mark of the
// turn that sent it. That the count is complete does not mean that they have arrived, and one read too early may stay in a cache: there are
// COPIES, read in turn, later and later, until the marks are right. WGSL calls this a data race, and promises no workgroup that it
// runs while another waits. So every wait has a limit, beyond which results are wrong and the slot is stopped as STOPPED_STALLED.
// Each workgroup keeps its rows of h, so that the residual stream does not travel. The first weights of a product are under way before the
// wait, and the first keys before QKV are there: bound read_write, since compilers move loads of what nothing writes below it; of one binding,
// since they wait for loads where the branches end that chose one of several; and loaded and multiplied in the same turn of a loop, since they
// move to other registers what one turn leaves to the next, and wait for it. Nor does a workgroup leave the attention before others because it
// has no keys: behind such a branch NVIDIA's compiler asks at each barrier and shuffle who is there, which took a sixth of the step.
// Grid: as many workgroups as run at the same time, whatever their order.
// Limits: one row; dim, ffn and the columns of O multiples of 64, and whole blocks of the types; dim / 16 / groups, rounded up, at most
// WORKGROUP_SIZE / 16; 11 storage buffers, of which WebGPU promises 8; subgroups of 4 lanes or more; matrices that lie in one buffer, and their
// scales in one, with norms and biases. ATTENTION takes a contiguous cache of f16, all layers' keys in one buffer and values in one.
// Beyond the plan: a dispatch that depends on another costs 2 us and a start and an end. Replaces nothing by itself: it does what
// matmul_gemv, fused_attention, matmul_gemv_residual, fused_ffn and matmul_gemv_residual do.

#import lane
#import known_lanes
#import reduce
#import left_sums
#import int16
#import slot
#import splits
#import activation
#import half
#import half_value
#import block_bits
#import unpack
#import q4k
#import fused_attention_shares
#import fused_attention_matrices

override WORKGROUP_SIZE: u32 = 512;  // power of two
override WEIGHT_TYPE: u32 = 4;       // of O, gate and up, and W: F16, BF16, Q8_0, Q4_0, Q4_K, Q5_K or Q6_K (shared/block_bits.wgsl)
override SOME_Q6_K: bool = false;    // D, or W's last rows, may be Q6_K beside others of Q4_K or Q5_K
override ATTENTION: bool = false;    // layers with their attention, by subgroup matrices, in workgroups of 256 or more
override PARTS: bool = false;        // attention lies in parts, which are put together where they are staged
override F16_PARTS: bool = false;    // of which the values are f16
override LAYERS: u32 = 1;            // of a dispatch, at most
override HALVES: u32 = 512;          // 16 elements each, of the longest vector
// HEAD_DIM: with PARTS or ATTENTION, a multiple of 16
// TEAM, KEYS: with ATTENTION, of fused_attention.wgsl

struct Exchange {
  turns: u32,                   // before this dispatch, modulo 2^32: one a layer, and with ATTENTION one more
  sent: array<atomic<u32>, 5>,  // of a matrix, or ATTENDED: by how many workgroups, EVERYONE a turn
  units: array<vec4u>,          // [REGIONS, COPIES, copy_units()]
}
const EVERYONE = 65536u;  // of which the first workgroup counts for those that a dispatch lacks
const COPIES = 4u;
const REGIONS = 4u;  // that turns take by turns: a cache may still have what lay there before
const VECTORS = 1u;  // of shared/left_sums

struct Params {
  dim: u32,
  heads_dim: u32,   // columns of O
  ffn: u32,
  qkv_rows: u32,
  alpha: f32,       // of what is added to the residual stream
  activation: u32,  // 0 SiLU, 1 GELU (tanh form)
  eps: f32,         // of the norms
  first_layer: u32,
  layer_count: u32, // without ATTENTION 1
  qkv_follows: u32, // 1: the next layer's qkv are made, too; not with ATTENTION
  patience: u32,    // rounds of waiting
  splits: u32,      // with PARTS: that have left them; with ATTENTION, that share keys: a multiple of 4
  heads: u32,       // this and what follows with ATTENTION, as in fused_attention.wgsl
  kv_heads: u32,
  ratio: u32,
  teams: u32,
  team_heads: u32,
  scale: f32,
  attn_softcap: f32,
  capacity: u32,
  max_seq: u32,
  rotary_dim: u32,  // a multiple of 16
  interleaved: u32,
}

// Where a layer lies, sixteen words: O, GATE_UP, DOWN and W, its own QKV, as {first unit of quants, first of scales}; then the same of W's last
// rows, with SOME_Q6_K of Q6_K, and
const V_AT = 8u;
const V_FIRST = 10u;    // the first of these rows, an even one
const DOWN_Q6_K = 11u;  // 1: D is
const ATTN_NORM = 12u;  // among the scales
const FFN_NORM = 13u;
const CACHE = 14u;      // its first unit of keys, and of values
const QKV_BIAS = 15u;   // among the scales, or
const NO_BIAS = 0xffffffffu;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> attended: array<vec4u>;       // [heads_dim] f32, or parts of shared/splits.wgsl; without ATTENTION
@group(0) @binding(2) var<storage, read_write> x: array<f32>;          // [dim]: becomes y
@group(0) @binding(3) var<storage, read_write> quants: array<vec4u>;   // O [dim, heads_dim], gate and up rows in turn [2 ffn, dim], D [dim, ffn], W [qkv_rows, dim], packed
@group(0) @binding(4) var<storage, read_write> scales: array<u32>;     // the same, and norms f32
@group(0) @binding(5) var<storage, read> layers: array<vec4u>;        // [layers, 4]: where each lies
@group(0) @binding(6) var<storage, read_write> exchange: Exchange;     // zeros before the first dispatch
@group(0) @binding(7) var<storage, read_write> qkv: array<f32>;        // [qkv_rows], with qkv_follows
@group(0) @binding(8) var<storage, read_write> slots: array<Slot>;     // [1]
@group(0) @binding(9) var<storage, read_write> rope: array<vec4f>;     // with ATTENTION: [2, max_seq, rotary_dim / 2]: cosines, then sines
@group(0) @binding(10) var<storage, read_write> k: array<vec4u>;       // [layers][capacity, kv_heads, HEAD_DIM] f16
@group(0) @binding(11) var<storage, read_write> v: array<vec4u>;       // the same

// The matrices, in turn; and what attention leaves, which is counted beside them.
const O = 0u;
const GATE_UP = 1u;
const DOWN = 2u;
const QKV = 3u;
const ATTENDED = 4u;

// High bytes of Int16, of piece p half h at h * pieces + p, and low ones behind them; or attention's tile.
var<workgroup> tile: array<vec4u, max(2 * HALVES, select(64, TILE_UNITS, ATTENTION))>;
var<workgroup> staged_scale: array<vec2f, HALVES>;
// The workgroup's rows of h, and behind them the weights of the norm that follows for each, or what it makes of gate and up.
var<workgroup> kept: array<f32, 2 * WORKGROUP_SIZE>;
var<workgroup> patience: u32;                                // rounds of waiting that are left to each wait
var<workgroup> stalled: atomic<u32>;                         // whether one was in vain
var<workgroup> places: array<vec4u, 4 * (LAYERS + 1)>;       // of the dispatch's layers, and of the one that follows
var<workgroup> row_state: vec2u;                             // the slot's position, and whether it has stopped

var<private> turn: u32;           // since the first dispatch
var<private> layer: u32;          // of the dispatch's
var<private> own_weights: vec2f;  // for the lane's row of h, of the norms that follow O and D

// The mark of what is sent in this turn: the lowest bit of some.
fn mark() -> u32 { return ~(turn / REGIONS) & 1; }

fn place(of_layer: u32, what: u32) -> u32 { return places[4 * of_layer + what / 4][what % 4]; }

// An element of a norm or a bias.
fn listed(i: u32) -> f32 { return bitcast<f32>(scales[i]); }

fn part_unit(i: u32) -> vec4u { return attended[i]; }

// Thirty-two bytes of a row's weights as they lie in memory (kernels/weight.hpp): 16 floats, a block of Q8_0, or a pair of blocks; and the
// words of scales that these need.
struct Piece { a: vec4u, b: vec4u, s: vec4u, t: vec2u }

fn is_float() -> bool { return WEIGHT_TYPE <= BF16; }
fn piece_halves() -> u32 { return select(select(4u, 2u, WEIGHT_TYPE == Q8_0), 1u, is_float()); }

// Rows of a matrix: where their weights begin, the number of their first one, and whether they are of Q6_K, as all are with that WEIGHT_TYPE.
struct Rows { quants: u32, scales: u32, first: u32, q6_k: bool }

fn scale_words(i: u32) -> vec4u { return vec4u(scales[i], scales[i + 1], scales[i + 2], scales[i + 3]); }

// The i-th from there on. No branch that a type known here does not decide.
fn load_piece(from_rows: Rows, i: u32) -> Piece {
  let unit = from_rows.quants + 2 * i;
  let s = from_rows.scales;
  var p = Piece(quants[unit], quants[unit + 1], vec4u(), vec2u());
  switch (WEIGHT_TYPE) {
    case F16, BF16: {}
    case Q8_0: { p.s.x = scales[s + (i >> 1)]; }
    case Q4_K: {
      p.s = scale_words(s + select(4 * (i >> 2), 6 * i, from_rows.q6_k));
      if (SOME_Q6_K) {
        let more = s + select(0, 6 * i + 4, from_rows.q6_k);
        p.t = vec2u(scales[more], scales[more + 1]);
      }
    }
    case Q5_K, Q6_K: {
      p.s = scale_words(s + select(12 * (i >> 2), 6 * i, from_rows.q6_k));
      let more = s + select(12 * (i >> 2) + 4 + 2 * (i & 3), 6 * i + 4, from_rows.q6_k);
      p.t = vec2u(scales[more], scales[more + 1]);
    }
    default: { p.s.x = scales[s + i]; }
  }
  return p;
}

// What a piece meets: as many halves as it has.
struct Staged { a: Int16, b: Int16, c: Int16, d: Int16 }

fn staged_half(place: u32) -> Int16 { return Int16(tile[place], tile[HALVES + place], staged_scale[place]); }
fn staged_piece(p: u32, pieces: u32) -> Staged {
  var e = Staged();
  e.a = staged_half(p);
  if (piece_halves() > 1) { e.b = staged_half(p + pieces); }
  if (piece_halves() > 2) {
    e.c = staged_half(p + 2 * pieces);
    e.d = staged_half(p + 3 * pieces);
  }
  return e;
}

// Float weights meet floats: their halves are staged as unsigned integers of 16 bits, 32,768 more each, which are the last bits of 2^23.
fn offset_words(high: u32, low: u32) -> vec2u {
  let v = vec4u(256 * unpack4xI8(high) + unpack4xI8(low) + 32768);
  return v.xz | (v.yw << vec2u(16));
}
fn two(word: u32) -> vec2f { return bitcast<vec2f>(vec2u(word & 0xffff, word >> 16) | vec2u(0x4b000000)) - 8421376.0; }
fn two_weights(word: u32) -> vec2f {
  if (WEIGHT_TYPE == F16) { return unpack2x16float(word); }
  return bitcast<vec2f>(vec2u(word << 16, word & 0xffff0000));
}
fn float_dot(q: vec4u, e: vec4u) -> f32 {
  let sums = two_weights(q.x) * two(e.x) + two_weights(q.y) * two(e.y) + two_weights(q.z) * two(e.z) + two_weights(q.w) * two(e.w);
  return sums.x + sums.y;
}

fn dot16(q: vec4u, e: Int16) -> f32 { return e.scale.x * f32(dot_int16(q, e.high, e.low)); }

fn low_nibbles(q: vec4u) -> vec4u { return q & vec4u(0x0f0f0f0f); }
fn high_nibbles(q: vec4u) -> vec4u { return (q >> vec4u(4)) & vec4u(0x0f0f0f0f); }

// A block of Q4_0 without its scale: nibbles less 8, of which the high ones stay where they are, sixteen times that.
fn q4_0_dot(q: vec4u, e: Int16, f: Int16) -> f32 {
  let high = (q & vec4u(0xf0f0f0f0)) ^ vec4u(0x80808080);
  return dot16(low_nibbles(q), e) - 8 * e.scale.y + dot16(high, f) / 16;
}
// Blocks of nibbles, and of nibbles below a fifth bit, of {scale, offset}.
fn block_dot(low: vec4u, high: vec4u, scale: vec2f, e: Int16, f: Int16) -> f32 {
  return scale.x * (dot16(low, e) + dot16(high, f)) + scale.y * (e.scale.y + f.scale.y);
}
fn nibbles_dot(q: vec4u, scale: vec2f, e: Int16, f: Int16) -> f32 { return block_dot(low_nibbles(q), high_nibbles(q), scale, e, f); }
fn five_bits_dot(q: vec4u, bits: u32, scale: vec2f, e: Int16, f: Int16) -> f32 {
  let low = low_nibbles(q) | vec4u(fifth_bits(0, bits), fifth_bits(1, bits), fifth_bits(2, bits), fifth_bits(3, bits));
  let high = high_nibbles(q) | vec4u(fifth_bits(4, bits), fifth_bits(5, bits), fifth_bits(6, bits), fifth_bits(7, bits));
  return block_dot(low, high, scale, e, f);
}
// Of Q6_K: nibbles below two bits of sixteen, and of sixteen more; {int8 scale, int8 scale, d}.
fn high_pairs(word: u32) -> vec4u { return vec4u(pairs_of(word, 0), pairs_of(word, 1), pairs_of(word, 2), pairs_of(word, 3)) << vec4u(4); }
fn six_bits_dot(q: vec4u, bits: vec2u, scales: u32, e: Int16, f: Int16) -> f32 {
  let both = unpack4xI8(scales);
  let first = f32(both.x) * (dot16(low_nibbles(q) | high_pairs(bits.x), e) - 32 * e.scale.y);
  let second = f32(both.y) * (dot16(high_nibbles(q) | high_pairs(bits.y), f) - 32 * f.scale.y);
  return half_value(scales >> 16) * (first + second);
}

fn q6_k_dot(piece: Piece, e: Staged) -> f32 {
  return six_bits_dot(piece.a, piece.s.xy, piece.s.z, e.a, e.b) + six_bits_dot(piece.b, vec2u(piece.s.w, piece.t.x), piece.t.y, e.c, e.d);
}

// The piece is a row's p-th.
fn piece_dot(q6_k: bool, piece: Piece, p: u32, e: Staged) -> f32 {
  if (SOME_Q6_K) {
    if (q6_k) { return q6_k_dot(piece, e); }
  }
  switch (WEIGHT_TYPE) {
    case F16, BF16: { return e.a.scale.x * (float_dot(piece.a, e.a.high) + float_dot(piece.b, e.a.low)); }
    case Q8_0: { return half_value(piece.s.x >> ((p & 1) << 4)) * (dot16(piece.a, e.a) + dot16(piece.b, e.b)); }
    case Q4_K: {
      let scales = q4k_scales(piece.s, 2 * (p & 3));
      return nibbles_dot(piece.a, scales.xy * vec2f(1, -1), e.a, e.b) + nibbles_dot(piece.b, scales.zw * vec2f(1, -1), e.c, e.d);
    }
    case Q5_K: {
      let scales = q4k_scales(piece.s, 2 * (p & 3));
      return five_bits_dot(piece.a, piece.t.x, scales.xy * vec2f(1, -1), e.a, e.b) +
             five_bits_dot(piece.b, piece.t.y, scales.zw * vec2f(1, -1), e.c, e.d);
    }
    case Q6_K: { return q6_k_dot(piece, e); }
    default: {
      let scale = unpack2x16float(piece.s.x);
      return scale.x * q4_0_dot(piece.a, e.a, e.b) + scale.y * q4_0_dot(piece.b, e.c, e.d);
    }
  }
}

// Of a vector of so many halves.
fn stage_half(half: u32, halves: u32, e: Int16) {
  let n = piece_halves();
  let place = (half % n) * (halves / n) + half / n;
  staged_scale[place] = e.scale;
  if (is_float()) {
    tile[place] = vec4u(offset_words(e.high.x, e.low.x), offset_words(e.high.y, e.low.y));
    tile[HALVES + place] = vec4u(offset_words(e.high.z, e.low.z), offset_words(e.high.w, e.low.w));
  } else {
    tile[place] = e.high;
    tile[HALVES + place] = e.low;
  }
}

// Of a matrix: its columns, and the rows that a workgroup has.
struct Part { cols: u32, rows: u32, first: u32, count: u32 }

// A workgroup's part of so many things, in `each` that stay together.
fn part_of(group: Group, cols: u32, rows: u32, each: u32) -> Part {
  let most = ((rows + each - 1) / each + group.count.x - 1) / group.count.x * each;
  let first = min(rows, group.id.x * most);
  return Part(cols, rows, first, min(rows, first + most) - first);
}
fn part(matrix: u32, group: Group) -> Part {
  switch (matrix) {
    case O: { return part_of(group, params.heads_dim, params.dim, 16); }
    case GATE_UP: { return part_of(group, params.dim, 2 * params.ffn, 32); }
    case DOWN: { return part_of(group, params.ffn, params.dim, 16); }
    default: { return part_of(group, params.dim, params.qkv_rows, select(2u, 4u, ATTENTION)); }
  }
}

fn rows_of(matrix: u32, row: u32) -> Rows {
  let of_layer = layer + u32(matrix == QKV);
  if (SOME_Q6_K) {
    if ((matrix == QKV) & (row >= place(of_layer, V_FIRST))) {
      return Rows(place(of_layer, V_AT), place(of_layer, V_AT + 1), place(of_layer, V_FIRST), true);
    }
  }
  let q6_k = (WEIGHT_TYPE == Q6_K) | (SOME_Q6_K & (matrix == DOWN) & (place(layer, DOWN_Q6_K) != 0));
  return Rows(place(of_layer, 2 * matrix), place(of_layer, 2 * matrix + 1), 0, q6_k);
}

// A piece of each of the two.
struct Pair { rows: Rows, a: Piece, b: Piece }

// Of rows i and i + 1 of a part; beyond it some piece that all lanes have in common and nobody needs.
fn load_pair(matrix: u32, own: Part, i: u32, p: u32, pieces: u32) -> Pair {
  let inside = i < own.count;
  let row = min(own.first + select(0, i, inside), own.rows - 1);
  let next = min(row + 1, own.rows - 1);
  let piece = select(0, min(p, pieces - 1), inside);
  let rows = rows_of(matrix, row);
  return Pair(rows, load_piece(rows, (row - rows.first) * pieces + piece), load_piece(rows, (next - rows.first) * pieces + piece));
}

fn pair_dot(w: Pair, p: u32, pieces: u32) -> vec2f {
  if (p >= pieces) { return vec2f(); }
  let e = staged_piece(p, pieces);
  return vec2f(piece_dot(w.rows.q6_k, w.a, p, e), piece_dot(w.rows.q6_k, w.b, p, e));
}

// Two sums of two rows each over a subgroup: lane i has that of row i / (size / 4) of the four. Uniform control flow only.
fn sums_of_rows(first: vec2f, second: vec2f, at: Lane) -> f32 {
  let size = known_subgroup_size(at);
  let upper = (sublane(at) & (size / 2)) != 0;
  let kept_pair = select(first, second, upper);
  let given_pair = select(second, first, upper);
  let pair = kept_pair + vec2f(subgroup_xor_f32(given_pair.x, size / 2), subgroup_xor_f32(given_pair.y, size / 2));
  let odd = (sublane(at) & (size / 4)) != 0;
  var sum = select(pair.x, pair.y, odd) + subgroup_xor_f32(select(pair.y, pair.x, odd), size / 4);
  for (var mask = 16u; mask > 0; mask /= 2) { sum += select(0, subgroup_xor_f32(sum, mask), mask <= size / 8); }  // subgroups have 128 lanes at most
  return sum;
}

// What a matrix makes for the next one: where in `exchange` its halves begin, and how many there are.
struct Made { first: u32, halves: u32 }

fn made_by(matrix: u32) -> Made {
  let h = params.dim / 16;
  let activated = params.ffn / 16;
  switch (matrix) {
    case O: { return Made(0, h); }
    case GATE_UP: { return Made(3 * h, activated); }
    default: { return Made(3 * (h + activated), h); }
  }
}
// Behind these QKV, in fours, and attention's parts: values, in eights, and a unit of each split's {peak, total, turn}.
fn qkv_first() -> u32 { return 6 * (params.dim / 16) + 3 * (params.ffn / 16); }
fn parts_first() -> u32 { return qkv_first() + params.qkv_rows / 4; }
fn ends_first() -> u32 { return parts_first() + params.splits * params.heads * UNITS; }
fn copy_units() -> u32 { return select(qkv_first(), ends_first() + params.splits * params.heads, ATTENTION); }
fn copy_first(copy: u32) -> u32 { return (turn % REGIONS * COPIES + copy) * copy_units(); }

// A half as it travels: its first eight elements, high bytes and low ones, its others, and {scale, sum of squares, turn}. The lowest bit of
// an element of each eight is mark(), so that sixteen bytes tell whether they are of this turn.
struct Words { a: vec4u, b: vec4u, ends: vec4u }

fn send(to: Made, half: u32, e: Sixteen, squares: f32) {
  let v = to_int16(e);
  let low = (v.low & vec4u(0xfffffffe, 0xffffffff, 0xfffffffe, 0xffffffff)) | vec4u(mark(), 0, mark(), 0);
  let scale = scale_of(v.scale.x, v.high, low);
  for (var copy = 0u; copy < COPIES; copy++) {
    let i = copy_first(copy) + to.first + half;
    exchange.units[i] = vec4u(v.high.xy, low.xy);
    exchange.units[i + to.halves] = vec4u(v.high.zw, low.zw);
    exchange.units[i + 2 * to.halves] = vec4u(bitcast<vec2u>(scale), bitcast<u32>(squares), turn + 1);
  }
}

fn has_sent(matrix: u32, group: Group) { atomicAdd(&exchange.sent[matrix], select(1, EVERYONE + 1 - group.count.x, group.id.x == 0)); }

fn sent_copy(from_all: Made, half: u32, copy: u32) -> Words {
  let i = copy_first(copy) + from_all.first + half;
  return Words(exchange.units[i], exchange.units[i + from_all.halves], exchange.units[i + 2 * from_all.halves]);
}
fn arrived(w: Words) -> bool { return (((w.a.z ^ mark()) | (w.b.z ^ mark())) & 1) == 0 && w.ends.w == turn + 1; }

fn kept4(i: u32) -> vec4f { return vec4f(kept[i], kept[i + 1], kept[i + 2], kept[i + 3]); }
fn kept16(i: u32) -> Sixteen { return Sixteen(kept4(i), kept4(i + 4), kept4(i + 8), kept4(i + 12)); }

// Sixteen of what the workgroup has made, from kept[i] on: of the residual stream times the weights of the norm that follows, and with the sum
// of its squares.
fn send_kept(matrix: u32, half: u32, i: u32) {
  var e = kept16(i);
  var squares = 0.0;
  if (matrix != GATE_UP) {
    squares = dot(e.a, e.a) + dot(e.b, e.b) + dot(e.c, e.c) + dot(e.d, e.d);
    let w = kept16(WORKGROUP_SIZE + i);
    e = Sixteen(e.a * w.a, e.b * w.b, e.c * w.c, e.d * w.d);
  }
  send(made_by(matrix), half, e, squares);
}

// Half a microsecond and more for each look at a complete count, which is never 1.
fn look_on(matrix: u32, copy: u32) {
  let looks = select(0, (1u << (2 * max(copy, 1) - 2)) - 1, patience != 0);
  for (var i = 0u; i < looks && atomicLoad(&exchange.sent[matrix]) != 1; i++) {}
}

// Until all have sent what a product, or the attention, has made in a turn. Uniform control flow only.
fn await_all(matrix: u32, of_turn: u32, at: Lane) {
  if (at.lane == 0) {
    var n = 0u;
    while (n < patience && bitcast<i32>(atomicLoad(&exchange.sent[matrix]) - EVERYONE * (of_turn + 1)) < 0) { n++; }
    if (n >= patience) {
      atomicStore(&stalled, 1);
      patience = 0;
    }
  }
  workgroupBarrier();
}

// Until all have sent what the matrix before this one makes; stages it. The sum of its squares, or 0. Uniform control flow only.
fn receive(matrix: u32, at: Lane) -> f32 {
  let from_all = made_by(matrix - 1);
  var squares = 0.0;
  await_all(matrix - 1, turn, at);
  for (var half = at.lane; half < from_all.halves; half += WORKGROUP_SIZE) {
    var w = Words();
    var missing = true;
    for (var copy = 0u; copy < COPIES && missing; copy++) {
      look_on(matrix - 1, copy);
      w = sent_copy(from_all, half, copy);
      missing = !arrived(w);
    }
    if (missing) { atomicStore(&stalled, 1); }
    stage_half(half, from_all.halves, Int16(vec4u(w.a.xy, w.b.xy), vec4u(w.a.zw, w.b.zw), bitcast<vec2f>(w.ends.xy)));
    squares += bitcast<f32>(w.ends.z);
  }
  if (matrix != DOWN) { leave_sums(array<f32, VECTORS>(squares), at); }
  workgroupBarrier();
  if (matrix == DOWN) { return 0; }  // needs none
  return left_sums(at)[0];
}

// Rows 4 i and on of QKV, which travel as they are, for the turn after this one.
fn send_qkv(i: u32, e: vec4f) {
  let own = turn;
  turn = own + 1;
  let words = bitcast<vec4u>(e);
  let marked = vec4u((words.x & 0xfffffffe) | mark(), words.yzw);
  for (var copy = 0u; copy < COPIES; copy++) { exchange.units[copy_first(copy) + qkv_first() + i] = marked; }
  turn = own;
}

fn activate(v: f32) -> f32 {
  if (params.activation == 0) { return silu(vec4f(v)).x; }
  return gelu(vec4f(v)).x;
}

// What becomes of the product of a part's row i; of a gate, and of the row of up behind it.
fn finish(matrix: u32, p: Part, i: u32, product: f32, up: f32) {
  switch (matrix) {
    case O: { kept[i] += product; }
    case GATE_UP: {
      if ((i & 1) == 0) { kept[WORKGROUP_SIZE + i / 2 % WORKGROUP_SIZE] = activate(product) * up; }
    }
    case DOWN: {
      kept[i] += product;
      x[p.first + i] = kept[i];
    }
    default: {
      var biased = product;
      let bias = place(layer + 1, QKV_BIAS);
      if (bias != NO_BIAS) { biased += listed(bias + p.first + i); }
      if (ATTENTION) {
        kept[WORKGROUP_SIZE + i % WORKGROUP_SIZE] = biased;
      } else {
        qkv[p.first + i] = biased;
      }
    }
  }
}


// What fused_attention_matrices.wgsl asks for, of one row, whose keys and values are contiguous.
const FROM_QKV = true;
const SPLIT = true;
const WINDOWED = false;
const MATRIX = true;
const LEAVES_EARLY = false;  // behind such a branch all would have to ask who is there
fn leave_nothing(s: Share, at: Lane) {}

struct KvRun { first: u32 }
fn run_from(row: u32, first: u32) -> KvRun { return KvRun(first); }
fn keys_of(row: u32, position: u32, stopped: u32) -> Keys {
  if (stopped != 0) { return Keys(0, 0, position, false, 0); }
  let has_row = position < params.capacity;
  return Keys(0, min(position + 1, params.capacity), position, has_row, position);
}
fn cache_unit(row: u32, kv_head: u32, unit: u32) -> u32 { return place(layer, CACHE) + (row * params.kv_heads + kv_head) * UNITS + unit; }
fn key_start(run: KvRun, i: u32, n: u32, kv_head: u32, part: u32) -> u32 { return cache_unit(run.first + min(i, n - 1), kv_head, part); }
fn row_elements() -> u32 { return params.qkv_rows; }

// QKV were made in the turn before this one, and sent for this one.
fn await_qkv(at: Lane) { await_all(QKV, turn - 1, at); }
fn qkv_fours(i: u32, j: u32) -> Fours {
  var a = vec4u();
  var b = vec4u();
  var missing = true;
  for (var copy = 0u; copy < COPIES && missing; copy++) {
    look_on(QKV, copy);
    a = sent_unit(copy, qkv_first() + i);
    b = sent_unit(copy, qkv_first() + j);
    missing = (((a.x ^ mark()) | (b.x ^ mark())) & 1) != 0;
  }
  if (missing) { atomicStore(&stalled, 1); }
  return Fours(bitcast<vec4f>(a), bitcast<vec4f>(b));
}

// Of what a split has found: eight values, which travel as f16, and {peak, total}.
fn send_part(query_head: u32, split: u32, unit: u32, value: vec4u) {
  let i = parts_first() + (query_head * params.splits + split) * UNITS + unit;
  let e = vec4u((value.x & 0xfffffffe) | mark(), value.yzw);
  for (var copy = 0u; copy < COPIES; copy++) { exchange.units[copy_first(copy) + i] = e; }
}
fn send_ends(query_head: u32, split: u32, peak: f32, total: f32) {
  let i = ends_first() + query_head * params.splits + split;
  for (var copy = 0u; copy < COPIES; copy++) { exchange.units[copy_first(copy) + i] = vec4u(bitcast<u32>(peak), bitcast<u32>(total), turn + 1, 0); }
}
// Uniform control flow only.
fn leave(s: Share, h: u32, four: u32, sum: vec4f, peak: f32, total: f32) {
  let packed = halves(select(vec4f(), sum / total, total > 0));
  let beside = matrix_xor_vec4u(vec4u(packed, 0, 0), 1);
  if (h >= s.heads) { return; }
  if ((four & 1) == 0) { send_part(s.first_head + h, s.split, four / 2, vec4u(packed, beside.xy)); }
  if (four == 0) { send_ends(s.first_head + h, s.split, peak, total); }
}

fn sent_unit(copy: u32, i: u32) -> vec4u { return exchange.units[copy_first(copy) + i]; }
struct PartUnits { low: vec4u, high: vec4u, ends: vec4u }
fn sent_part(copy: u32, query_head: u32, split: u32, n: u32) -> PartUnits {
  let i = query_head * params.splits + split;
  let first = parts_first() + i * UNITS + 2 * n;
  return PartUnits(sent_unit(copy, first), sent_unit(copy, first + 1), sent_unit(copy, ends_first() + i));
}
fn part_arrived(p: PartUnits) -> bool { return (((p.low.x ^ mark()) | (p.high.x ^ mark())) & 1) == 0 && p.ends.z == turn + 1; }
fn sixteen_of(p: PartUnits) -> Sixteen { return Sixteen(halves_of(p.low.xy), halves_of(p.low.zw), halves_of(p.high.xy), halves_of(p.high.zw)); }

// Elements 16 n to 16 n + 15 of what a query head has attended to, of `used` splits: two at a time, since registers are few beside the weights
// that are under way.
fn received_attention(query_head: u32, n: u32, used: u32) -> Sixteen {
  var peak = LOWEST;
  var total = 0.0;
  var sum = Sixteen();
  for (var split = 0u; split < used; split += 2) {
    var a = PartUnits();
    var b = PartUnits();
    var missing = true;
    for (var copy = 0u; copy < COPIES && missing; copy++) {
      look_on(ATTENDED, copy);
      a = sent_part(copy, query_head, split, n);
      b = sent_part(copy, query_head, split + 1, n);
      missing = !(part_arrived(a) & part_arrived(b));
    }
    if (missing) { atomicStore(&stalled, 1); }
    let ends = bitcast<vec4f>(vec4u(a.ends.xy, b.ends.xy));
    let highest = max(peak, max(ends.x, ends.z));
    let w = vec3f(exp(peak - highest), ends.yw * exp(ends.xz - highest));
    peak = highest;
    total = total * w.x + w.y + w.z;
    let one = sixteen_of(a);
    let two = sixteen_of(b);
    sum = Sixteen(w.x * sum.a + w.y * one.a + w.z * two.a, w.x * sum.b + w.y * one.b + w.z * two.b,
                  w.x * sum.c + w.y * one.c + w.z * two.c, w.x * sum.d + w.y * one.d + w.z * two.d);
  }
  if (total == 0) { return Sixteen(); }
  let one = 1 / total;
  return Sixteen(one * sum.a, one * sum.b, one * sum.c, one * sum.d);
}

fn attend(group: Group, state: vec2u, at: Lane) {
  let shares = params.kv_heads * params.teams;
  for (var i = group.id.x; i < shares * params.splits; i += group.count.x) {
    let split = quotient(i, shares);
    matrices(share_of(vec3u(i - split * shares, split, 0)), state.x, state.y, at);
  }
}

// What O meets. Uniform control flow only.
fn stage_attended(used: u32, at: Lane) {
  if (ATTENTION) {
    await_all(ATTENDED, turn, at);
    for (var half = at.lane; half < params.heads_dim / 16; half += WORKGROUP_SIZE) {
      stage_half(half, params.heads_dim / 16, to_int16(received_attention(half / (HEAD_DIM / 16), half % (HEAD_DIM / 16), used)));
    }
  } else {
    for (var half = at.lane; half < params.heads_dim / 16; half += WORKGROUP_SIZE) {
      var e = Sixteen();
      if (PARTS) {
        e = combined(Splits(params.splits, params.heads_dim / HEAD_DIM), half / (HEAD_DIM / 16), half % (HEAD_DIM / 16));
      } else {
        e = Sixteen(bitcast<vec4f>(attended[4 * half]), bitcast<vec4f>(attended[4 * half + 1]), bitcast<vec4f>(attended[4 * half + 2]),
                    bitcast<vec4f>(attended[4 * half + 3]));
      }
      stage_half(half, params.heads_dim / 16, to_int16(e));
    }
  }
  workgroupBarrier();
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let turns = exchange.turns;
  if (at.lane == 0) {
    atomicStore(&stalled, 0);
    // After a layer that has waited in vain the rest of the step counts for nothing.
    patience = select(params.patience, 0, slots[0].stopped == STOPPED_STALLED);
  }
  let teams = uniform_subgroups(at);
  let lanes = WORKGROUP_SIZE / teams;
  let own_h = part(O, group);
  if (at.lane < own_h.count) { kept[at.lane] = x[own_h.first + at.lane]; }
  for (var i = at.lane; i < 4 * (params.layer_count + params.qkv_follows); i += WORKGROUP_SIZE) { places[i] = layers[4 * params.first_layer + i]; }
  if (at.lane == 0) { row_state = vec2u(slots[0].position, slots[0].stopped); }
  let state = workgroupUniformLoad(&row_state);
  let used_splits = rounds_of(keys_of(0, state.x, state.y), TILE_KEYS, 0).used;
  // With ATTENTION the first turn is of no layer: x takes the place of what D would make, and QKV of the first layer follow.
  for (var i = select(1u, 0u, ATTENTION); i <= params.layer_count; i++) {
    layer = i - 1;
    turn = turns + i - select(1u, 0u, ATTENTION);
    let has_next = (i < params.layer_count) | (params.qkv_follows != 0);
    // Under way until they are kept.
    let own_row = own_h.first + min(at.lane, max(own_h.count, 1) - 1);
    own_weights = vec2f(listed(place(max(i, 1) - 1, FFN_NORM) + own_row),
                        listed(place(min(i, params.layer_count - 1 + params.qkv_follows), ATTN_NORM) + own_row));
    if (ATTENTION & (i > 0)) {
      attend(group, state, at);
      workgroupBarrier();
      if (at.lane == 0) { has_sent(ATTENDED, group); }
    }
    products(group, teams, lanes, used_splits, i == 0, has_next, at);
    if (ATTENTION & (at.lane == 0)) {  // all are counted in each turn
      if (i == 0) {
        has_sent(O, group);
        has_sent(GATE_UP, group);
        has_sent(ATTENDED, group);
      }
      if (!has_next) { has_sent(QKV, group); }
    }
  }
  if (at.lane == 0) {
    if (atomicLoad(&stalled) != 0) { slots[0].stopped = STOPPED_STALLED; }
    if (group.id.x == 0) { exchange.turns = turns + params.layer_count + select(0u, 1u, ATTENTION); }  // all have read it, since all have sent
  }
}

fn products(group: Group, teams: u32, lanes: u32, used_splits: u32, begins: bool, has_next: bool, at: Lane) {
  let end = select(QKV, QKV + 1, has_next);
  for (var matrix = select(O, DOWN, begins); matrix < end; matrix++) {
    let own = part(matrix, group);
    let makes_nothing = begins & (matrix == DOWN);
    let pieces = select(own.cols / (16 * piece_halves()), 0, makes_nothing);
    // A turn of the loop is two pairs of pieces a lane, of one pair of rows or of two.
    let long = pieces > lanes;
    var scale = params.alpha;
    var sum0 = vec2f();
    var sum1 = vec2f();
    var base = 0u;
    var first = 0u;
    loop {
      let i = base + 2 * subgroup(at);
      let p = first + sublane(at);
      let other_i = i + select(2 * teams, 0, long);
      let other_p = p + select(0, lanes, long);
      let pair = load_pair(matrix, own, i, p, pieces);
      let other = load_pair(matrix, own, other_i, other_p, pieces);
      if (base + first == 0 && !makes_nothing) {
        if (matrix == O) {
          stage_attended(used_splits, at);
        } else {
          let squares = receive(matrix, at);
          if (matrix != DOWN) { scale = inverseSqrt(squares / f32(params.dim) + params.eps); }
        }
      }
      sum0 += pair_dot(pair, p, pieces);
      sum1 += pair_dot(other, other_p, pieces);
      first += select(lanes, 2 * lanes, long);
      if (first < pieces) { continue; }
      let size = known_subgroup_size(at);
      var product = scale * sums_of_rows(sum0, sum1, at);
      if (long) { product += subgroup_xor_f32(product, size / 2); }
      let up = subgroup_xor_f32(product, size / 4);
      let quarter = sublane(at) / (size / 4);
      let row = select(i, other_i, quarter > 1) + quarter % 2;
      if (sublane(at) % (size / 4) == 0 && (quarter < 2 || !long) && row < own.count) { finish(matrix, own, row, product, up); }
      sum0 = vec2f();
      sum1 = vec2f();
      first = 0;
      base += select(4 * teams, 2 * teams, long);
      let done = min(base, own.count);
      let kept_rows = select(2u, 1u, ATTENTION & (matrix == QKV)) * WORKGROUP_SIZE;
      if ((ATTENTION | (matrix != QKV)) & ((done == own.count) | (done % kept_rows == 0))) {
        let rows_each = select(select(16u, 32u, matrix == GATE_UP), 4u, matrix == QKV);  // of what is sent in one: of gate and up so many make sixteen
        let sent_before = (max(done, 1) - 1) / kept_rows * kept_rows;
        if ((matrix == O) | (matrix == DOWN)) { kept[WORKGROUP_SIZE + at.lane] = select(own_weights.y, own_weights.x, matrix == O); }
        workgroupBarrier();
        // What D makes also where nobody reads it: what each turn replaces tells the turns apart.
        if (rows_each * at.lane < done - sent_before) {
          let i = (own.first + sent_before) / rows_each + at.lane;
          if (ATTENTION & (matrix == QKV)) {
            send_qkv(i, kept4(WORKGROUP_SIZE + 4 * at.lane));
          } else {
            send_kept(matrix, i, select(0, WORKGROUP_SIZE, matrix == GATE_UP) + 16 * at.lane);
          }
        }
        workgroupBarrier();
      }
      if (base >= own.count) { break; }
    }
    if ((at.lane == 0) & (ATTENTION | (matrix != QKV))) { has_sent(matrix, group); }
  }
}
