// fused_layer.wgsl: what a decode step does between two attentions, in one dispatch: h = x + alpha O a of what attention found, y = h + alpha
// D (act(G n) * (U n)) with n = h / rms(h) * norm, and qkv = W m with m = y / rms(y) * next_norm, of the next layer.
//
// Four products, one after the other, of a vector that all workgroups need and that each makes a part of. What one makes it rounds to
// integers (shared/int16.wgsl) and sends through `exchange`: words that are 0 while empty, then a count of those who have sent, which one lane
// waits for before all look at the words. By WGSL's rules the words alone are sound. No rule promises that a workgroup runs while
// another waits: every wait has a limit, beyond which results are wrong, and the slot is stopped as STOPPED_STALLED. The last one to
// read leaves zeros.
// Each workgroup keeps its rows of h, so that the residual stream does not travel. The first weights of a product are under way before
// the wait: bound read_write, since compilers move loads of what nothing writes below it.
// Grid: as many workgroups as run at the same time, whatever their order.
// Limits: one row; weights of Q4_0; dim, ffn and the columns of O multiples of 64; dim / 16 / groups, rounded up, at most
// WORKGROUP_SIZE / 16; 16 storage buffers, of which WebGPU promises 8.
// Beyond the plan: a dispatch that depends on another costs 2 us and a start and an end. Replaces nothing by itself: it does what
// matmul_gemv_residual, fused_ffn, matmul_gemv_residual and matmul_gemv do.

#import lane
#import reduce
#import int16
#import slot
#import splits
#import activation

override WORKGROUP_SIZE: u32 = 512;  // power of two
override PARTS: bool = false;        // attention lies in parts, which are put together where they are staged
override F16_PARTS: bool = false;    // of which the values are f16
override HALVES: u32 = 512;          // 16 elements each, of the longest vector
// HEAD_DIM: with PARTS, a multiple of 16

struct Params {
  dim: u32,
  heads_dim: u32,   // columns of O
  ffn: u32,
  qkv_rows: u32,    // 0: no next layer
  alpha: f32,       // of what is added to the residual stream
  activation: u32,  // 0 SiLU, 1 GELU (tanh form)
  eps: f32,         // of the norms
  splits: u32,      // with PARTS: that have left them
  patience: u32,    // rounds of waiting
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> attended: array<vec4u>;       // [heads_dim] f32, or parts of shared/splits.wgsl
@group(0) @binding(2) var<storage, read_write> x: array<f32>;          // [dim]: becomes y
@group(0) @binding(3) var<storage, read> norm: array<vec4f>;           // [dim]
@group(0) @binding(4) var<storage, read> next_norm: array<vec4f>;      // [dim], with qkv_rows
@group(0) @binding(5) var<storage, read_write> o: array<vec4u>;        // O [dim, heads_dim], packed
@group(0) @binding(6) var<storage, read_write> o_scales: array<u32>;             // the same
@group(0) @binding(7) var<storage, read_write> gate_up: array<vec4u>;  // gate and up rows in turn [2 ffn, dim], packed
@group(0) @binding(8) var<storage, read_write> gate_up_scales: array<u32>;       // the same
@group(0) @binding(9) var<storage, read_write> down: array<vec4u>;     // D [dim, ffn], packed
@group(0) @binding(10) var<storage, read_write> down_scales: array<u32>;         // the same
@group(0) @binding(11) var<storage, read_write> w: array<vec4u>;       // W [qkv_rows, dim], packed
@group(0) @binding(12) var<storage, read_write> w_scales: array<u32>;            // the same
@group(0) @binding(13) var<storage, read_write> exchange: array<atomic<u32>>;  // zeros, before and after
@group(0) @binding(14) var<storage, read_write> copies: array<vec4u>;  // zeros, before and after
@group(0) @binding(15) var<storage, read_write> qkv: array<f32>;       // [qkv_rows]
@group(0) @binding(16) var<storage, read_write> slots: array<Slot>;    // [1]

const O = 0u;
const GATE_UP = 1u;
const DOWN = 2u;
const QKV = 3u;

var<workgroup> staged_high: array<vec4u, HALVES>;            // of Int16; of pair p of blocks half h at h * pairs + p
var<workgroup> staged_low: array<vec4u, HALVES>;
var<workgroup> staged_scale: array<vec2f, HALVES>;
var<workgroup> kept: array<f32, 2 * WORKGROUP_SIZE>;         // the workgroup's rows of h, and behind them what is to be sent
var<workgroup> patience: u32;                                // rounds of waiting that are left to each wait
var<workgroup> stalled: atomic<u32>;                         // whether one was in vain
var<workgroup> shared_word: u32;

fn part_unit(i: u32) -> vec4u { return attended[i]; }

// A pair of blocks of a row as it lies in memory. `matrix` is constant wherever this is called.
struct Pair { a: vec4u, b: vec4u, scales: u32 }

fn load_pair(matrix: u32, i: u32) -> Pair {
  switch (matrix) {
    case O: { return Pair(o[2 * i], o[2 * i + 1], o_scales[i]); }
    case GATE_UP: { return Pair(gate_up[2 * i], gate_up[2 * i + 1], gate_up_scales[i]); }
    case DOWN: { return Pair(down[2 * i], down[2 * i + 1], down_scales[i]); }
    default: { return Pair(w[2 * i], w[2 * i + 1], w_scales[i]); }
  }
}

struct Staged { a: Int16, b: Int16, c: Int16, d: Int16 }

fn staged_half(place: u32) -> Int16 { return Int16(staged_high[place], staged_low[place], staged_scale[place]); }
fn staged_pair(p: u32, pairs: u32) -> Staged {
  return Staged(staged_half(p), staged_half(p + pairs), staged_half(p + 2 * pairs), staged_half(p + 3 * pairs));
}

fn dot16(q: vec4u, e: Int16) -> f32 { return e.scale.x * f32(dot_int16(q, e.high, e.low)); }

fn pair_dot(p: Pair, e: Staged) -> f32 {
  let low = vec4u(0x0f0f0f0f);
  let scale = unpack2x16float(p.scales);
  let even = dot16(p.a & low, e.a) + dot16((p.a >> vec4u(4)) & low, e.b) - 8 * (e.a.scale.y + e.b.scale.y);
  let odd = dot16(p.b & low, e.c) + dot16((p.b >> vec4u(4)) & low, e.d) - 8 * (e.c.scale.y + e.d.scale.y);
  return scale.x * even + scale.y * odd;
}

fn stage_half(half: u32, pairs: u32, e: Int16) {
  let place = (half & 3) * pairs + (half >> 2);
  staged_high[place] = e.high;
  staged_low[place] = e.low;
  staged_scale[place] = e.scale;
}

// Two pairs of each of two rows, whose loads are under way at once: of a row a lane has pair t, t + lanes, t + 2 lanes, …
struct Held { a0: Pair, a1: Pair, b0: Pair, b1: Pair }
struct Rows { first: u32, second: u32, pairs: u32 }  // their first pairs, and how many each has

// Rows `row` and `row` + 1; the last one in place of those beyond it.
fn rows_from(row: u32, rows: u32, pairs: u32) -> Rows { return Rows(min(row, rows - 1) * pairs, min(row + 1, rows - 1) * pairs, pairs); }

fn hold(matrix: u32, r: Rows, p: u32, lanes: u32) -> Held {
  let p0 = min(p, r.pairs - 1);
  let p1 = min(p + lanes, r.pairs - 1);
  return Held(load_pair(matrix, r.first + p0), load_pair(matrix, r.first + p1), load_pair(matrix, r.second + p0), load_pair(matrix, r.second + p1));
}

// The rows times what is staged, in every lane of the subgroup, of which the first pairs are held. Uniform control flow only.
fn multiply(matrix: u32, first: Held, r: Rows, at: Lane) -> vec2f {
  let lanes = subgroup_size(at);
  var held = first;
  var sums = vec2f();
  var p = sublane(at);
  loop {
    if (p < r.pairs) {
      let e = staged_pair(p, r.pairs);
      sums += vec2f(pair_dot(held.a0, e), pair_dot(held.b0, e));
    }
    if (p + lanes < r.pairs) {
      let e = staged_pair(p + lanes, r.pairs);
      sums += vec2f(pair_dot(held.a1, e), pair_dot(held.b1, e));
    }
    p += 2 * lanes;
    if (p >= r.pairs) { break; }
    held = hold(matrix, r, p, lanes);
  }
  return vec2f(subgroup_sum_f32(sums.x), subgroup_sum_f32(sums.y));
}

// `exchange`: of each of three vectors words 0 to 7 of its halves, high bytes and low ones, word 8, their scale, word 9, of h and y
// their sum of squares, else 1; then how many have sent each, and how many have read the last, STALLED more for each that has waited in vain.
// `copies`: of each of them again, 16 bytes at a time: high bytes, then low ones, then {scale, sum of squares or 1}.
struct Sent { start: u32, halves: u32, counter: u32, copies: u32 }

fn counters() -> u32 { return 10 * (params.dim / 16) * 2 + 10 * (params.ffn / 16); }
fn sent_h() -> Sent { return Sent(0, params.dim / 16, counters(), 0); }
fn sent_y() -> Sent { return Sent(10 * (params.dim / 16), params.dim / 16, counters() + 1, 3 * (params.dim / 16)); }
fn sent_activated() -> Sent { return Sent(20 * (params.dim / 16), params.ffn / 16, counters() + 2, 6 * (params.dim / 16)); }
fn read_at() -> u32 { return counters() + 3; }
fn exchange_words() -> u32 { return counters() + 4; }
const STALLED = 65536u;

// A word that is not 0, which stands for -0.
fn filled(value: f32) -> u32 {
  let bits = bitcast<u32>(value);
  return select(bits, 0x80000000, bits == 0);
}

// Sixteen elements, and a sum of squares or 1.
fn send(to: Sent, half: u32, e: Sixteen, squares: f32) {
  let v = to_int16(e);
  let high = v.high ^ vec4u(0x80808080);  // no byte is -128
  let low = max(v.low ^ vec4u(0x80808080), vec4u(1));  // four may be: one of them is then -127, of 1/65,000 of the largest element
  let ends = vec2u(filled(v.scale.x), filled(squares));
  for (var j = 0u; j < 4; j++) {
    atomicStore(&exchange[to.start + j * to.halves + half], high[j]);
    atomicStore(&exchange[to.start + (4 + j) * to.halves + half], low[j]);
  }
  atomicStore(&exchange[to.start + 8 * to.halves + half], ends.x);
  atomicStore(&exchange[to.start + 9 * to.halves + half], ends.y);
  copies[to.copies + half] = high;
  copies[to.copies + to.halves + half] = low;
  copies[to.copies + 2 * to.halves + half] = vec4u(ends, 0, 0);
}

fn kept4(i: u32) -> vec4f { return vec4f(kept[i], kept[i + 1], kept[i + 2], kept[i + 3]); }
fn kept16(i: u32) -> Sixteen { return Sixteen(kept4(i), kept4(i + 4), kept4(i + 8), kept4(i + 12)); }

// Sixteen of the workgroup's rows of h, times a norm's weights, and their squares.
fn send_rows(to: Sent, half: u32, own: u32, of_next: bool) {
  var e = kept16(16 * own);
  let squares = dot(e.a, e.a) + dot(e.b, e.b) + dot(e.c, e.c) + dot(e.d, e.d);
  if (of_next) {
    e = Sixteen(e.a * next_norm[4 * half], e.b * next_norm[4 * half + 1], e.c * next_norm[4 * half + 2], e.d * next_norm[4 * half + 3]);
  } else {
    e = Sixteen(e.a * norm[4 * half], e.b * norm[4 * half + 1], e.c * norm[4 * half + 2], e.d * norm[4 * half + 3]);
  }
  send(to, half, e, squares);
}

// Half of 16 elements as it was sent, or zeros where it has not arrived.
struct Words { high: vec4u, low: vec4u, ends: vec2u }
fn arrived(w: Words) -> bool { return all(w.high != vec4u()) && all(w.low != vec4u()) && all(w.ends != vec2u()); }
fn sent_copy(from_all: Sent, half: u32) -> Words {
  let i = from_all.copies + half;
  return Words(copies[i], copies[i + from_all.halves], copies[i + 2 * from_all.halves].xy);
}
fn sent_word(from_all: Sent, half: u32, j: u32) -> u32 { return atomicLoad(&exchange[from_all.start + j * from_all.halves + half]); }
fn sent_words(from_all: Sent, half: u32) -> Words {
  return Words(vec4u(sent_word(from_all, half, 0), sent_word(from_all, half, 1), sent_word(from_all, half, 2), sent_word(from_all, half, 3)),
               vec4u(sent_word(from_all, half, 4), sent_word(from_all, half, 5), sent_word(from_all, half, 6), sent_word(from_all, half, 7)),
               vec2u(sent_word(from_all, half, 8), sent_word(from_all, half, 9)));
}

// Until all have sent, and a little longer for words that are under way; stages them. The sum of their squares, or 0. Uniform control flow only.
fn receive(from_all: Sent, with_squares: bool, groups: u32, at: Lane) -> f32 {
  if (at.lane == 0) {
    var n = 0u;
    while (n < patience && atomicLoad(&exchange[from_all.counter]) < groups) { n++; }
    if (n >= patience) {
      atomicStore(&stalled, 1);
      patience = 0;
    }
  }
  workgroupBarrier();
  storageBarrier();
  let pairs = from_all.halves / 4;
  var squares = 0.0;
  for (var half = at.lane; half < from_all.halves; half += WORKGROUP_SIZE) {
    var w = sent_copy(from_all, half);
    var n = 0u;
    for (; n < patience && !arrived(w); n++) { w = sent_words(from_all, half); }
    if (!arrived(w)) { atomicStore(&stalled, 1); }
    let high = w.high ^ vec4u(0x80808080);
    let low = w.low ^ vec4u(0x80808080);
    stage_half(half, pairs, Int16(high, low, scale_of(bitcast<f32>(w.ends.x), high, low)));
    squares += bitcast<f32>(w.ends.y);
  }
  if (with_squares) { return workgroup_sum(squares, at); }
  workgroupBarrier();
  return 0;
}

fn inverse_rms(squares: f32) -> f32 { return inverseSqrt(squares / f32(params.dim) + params.eps); }

fn activate(v: f32) -> f32 {
  if (params.activation == 0) { return silu(vec4f(v)).x; }
  return gelu(vec4f(v)).x;
}

// A workgroup's part of so many: from the first, and how many.
fn part_of(all: u32, group: Group) -> vec2u {
  let each = (all + group.count.x - 1) / group.count.x;
  let first = min(all, group.id.x * each);
  return vec2u(first, min(all, first + each) - first);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  if (at.lane == 0) {
    shared_word = subgroups(at);
    atomicStore(&stalled, 0);
    // After a layer that has waited in vain the rest of the step counts for nothing.
    patience = select(params.patience, 0, slots[0].stopped == STOPPED_STALLED);
  }
  let teams = workgroupUniformLoad(&shared_word);
  let lanes = subgroup_size(at);
  let own = part_of(params.dim / 16, group);  // of h and y
  let first_row = 16 * own.x;
  let rows = 16 * own.y;

  // h = x + alpha O a
  let o_pairs = params.heads_dim / 64;
  var r = rows_from(first_row + 2 * subgroup(at), params.dim, o_pairs);
  var held = hold(O, r, sublane(at), lanes);
  for (var half = at.lane; half < params.heads_dim / 16; half += WORKGROUP_SIZE) {
    var e = Sixteen();
    if (PARTS) {
      e = combined(Splits(params.splits, params.heads_dim / HEAD_DIM), half / (HEAD_DIM / 16), half % (HEAD_DIM / 16));
    } else {
      e = Sixteen(bitcast<vec4f>(attended[4 * half]), bitcast<vec4f>(attended[4 * half + 1]), bitcast<vec4f>(attended[4 * half + 2]),
                  bitcast<vec4f>(attended[4 * half + 3]));
    }
    stage_half(half, o_pairs, to_int16(e));
  }
  workgroupBarrier();
  for (var base = 0u; base < rows; base += 2 * teams) {
    let i = base + 2 * subgroup(at);
    r = rows_from(first_row + i, params.dim, o_pairs);
    if (base > 0) { held = hold(O, r, sublane(at), lanes); }
    let sums = params.alpha * multiply(O, held, r, at);
    if (sublane(at) == 0 && i < rows) {
      kept[i] = sums.x + x[first_row + i];
      kept[i + 1] = sums.y + x[first_row + i + 1];
    }
  }
  workgroupBarrier();
  if (at.lane < own.y) { send_rows(sent_h(), own.x + at.lane, at.lane, false); }
  workgroupBarrier();
  if (at.lane == 0) { atomicAdd(&exchange[sent_h().counter], 1); }

  // act(G n) * (U n)
  let mine = part_of(params.ffn / 16, group);
  let pairs = params.dim / 64;
  r = rows_from(2 * (16 * mine.x + subgroup(at)), 2 * params.ffn, pairs);
  held = hold(GATE_UP, r, sublane(at), lanes);
  var scale = inverse_rms(receive(sent_h(), true, group.count.x, at));
  for (var base = 0u; base < 16 * mine.y; base += WORKGROUP_SIZE) {
    let count = min(WORKGROUP_SIZE, 16 * mine.y - base);
    for (var first = 0u; first < count; first += teams) {
      let i = first + subgroup(at);
      r = rows_from(2 * (16 * mine.x + base + i), 2 * params.ffn, pairs);
      if (base + first > 0) { held = hold(GATE_UP, r, sublane(at), lanes); }
      let sums = scale * multiply(GATE_UP, held, r, at);
      if (sublane(at) == 0 && i < count) { kept[WORKGROUP_SIZE + i] = activate(sums.x) * sums.y; }
    }
    workgroupBarrier();
    if (16 * at.lane < count) {
      send(sent_activated(), mine.x + base / 16 + at.lane, kept16(WORKGROUP_SIZE + 16 * at.lane), 1);
    }
    workgroupBarrier();
  }
  if (at.lane == 0) { atomicAdd(&exchange[sent_activated().counter], 1); }

  // y = h + alpha D of it
  let down_pairs = params.ffn / 64;
  r = rows_from(first_row + 2 * subgroup(at), params.dim, down_pairs);
  held = hold(DOWN, r, sublane(at), lanes);
  receive(sent_activated(), false, group.count.x, at);
  for (var base = 0u; base < rows; base += 2 * teams) {
    let i = base + 2 * subgroup(at);
    r = rows_from(first_row + i, params.dim, down_pairs);
    if (base > 0) { held = hold(DOWN, r, sublane(at), lanes); }
    let sums = params.alpha * multiply(DOWN, held, r, at);
    if (sublane(at) == 0 && i < rows) {
      let sum = vec2f(kept[i], kept[i + 1]) + sums;
      kept[i] = sum.x;
      kept[i + 1] = sum.y;
      x[first_row + i] = sum.x;
      x[first_row + i + 1] = sum.y;
    }
  }

  if (params.qkv_rows != 0) {
    workgroupBarrier();
    if (at.lane < own.y) { send_rows(sent_y(), own.x + at.lane, at.lane, true); }
    workgroupBarrier();
    if (at.lane == 0) { atomicAdd(&exchange[sent_y().counter], 1); }

    // qkv = W m
    let part = part_of(params.qkv_rows, group);
    let first = part.x;
    let count = part.y;
    r = rows_from(first + 2 * subgroup(at), params.qkv_rows, pairs);
    held = hold(QKV, r, sublane(at), lanes);
    scale = inverse_rms(receive(sent_y(), true, group.count.x, at));
    for (var base = 0u; base < count; base += 2 * teams) {
      let i = base + 2 * subgroup(at);
      r = rows_from(first + i, params.qkv_rows, pairs);
      if (base > 0) { held = hold(QKV, r, sublane(at), lanes); }
      let sums = scale * multiply(QKV, held, r, at);
      if (sublane(at) == 0) {
        if (i < count) { qkv[first + i] = sums.x; }
        if (i + 1 < count) { qkv[first + i + 1] = sums.y; }
      }
    }
  }

  // All have read what was sent: the last one leaves nothing of it, and says whether it was right.
  if (at.lane == 0) {
    let own_count = select(1, 1 + STALLED, atomicLoad(&stalled) != 0);
    shared_word = atomicAdd(&exchange[read_at()], own_count) + own_count;
  }
  let readers = workgroupUniformLoad(&shared_word);
  if (readers % STALLED == group.count.x) {
    for (var i = at.lane; i < exchange_words(); i += WORKGROUP_SIZE) { atomicStore(&exchange[i], 0); }
    for (var i = at.lane; i < 6 * (params.dim / 16) + 3 * (params.ffn / 16); i += WORKGROUP_SIZE) { copies[i] = vec4u(); }
    if (at.lane == 0 && readers >= STALLED) { slots[0].stopped = STOPPED_STALLED; }
  }
}
