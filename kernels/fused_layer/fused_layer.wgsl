// fused_layer.wgsl: what a decode step does between two attentions, in one dispatch: h = x + alpha O a of what attention found, y = h + alpha
// D (act(G n) * (U n)) with n = h / rms(h) * norm, and qkv = W m with m = y / rms(y) * next_norm, of the next layer.
//
// Four products, one after the other, of a vector that all workgroups need and that each makes a part of. What one makes it rounds to
// integers (shared/int16.wgsl) and sends through `exchange`, then adds to a count, which one lane of each waits for before all read. Reading
// every word by an atomic load took a quarter of the kernel's time; so what is sent are plain vectors of sixteen bytes, each with a mark of the
// dispatch that sent it. That the count is complete does not mean that they have arrived, and one read too early may stay in a cache: there are
// COPIES, read in turn, later and later, until the marks are right. WGSL calls this a data race, and promises no workgroup that it
// runs while another waits. So every wait has a limit, beyond which results are wrong and the slot is stopped as STOPPED_STALLED.
// Each workgroup keeps its rows of h, so that the residual stream does not travel. The first weights of a product, but of O, are under way before
// the wait: bound read_write, since compilers move loads of what nothing writes below it.
// Grid: as many workgroups as run at the same time, whatever their order.
// Limits: one row; weights of Q4_0; dim, ffn and the columns of O multiples of 64; dim / 16 / groups, rounded up, at most
// WORKGROUP_SIZE / 16; 15 storage buffers, of which WebGPU promises 8.
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

struct Exchange {
  epoch: u32,                   // of the dispatch before this one, modulo 2^32
  sent: array<atomic<u32>, 3>,  // by how many workgroups, EVERYONE a dispatch
  halves: array<vec4u>,         // [COPIES, copy_units()]
}
const EVERYONE = 65536u;  // of which the first workgroup counts for those that a dispatch lacks
const COPIES = 4u;

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
@group(0) @binding(13) var<storage, read_write> exchange: Exchange;    // zeros before the first dispatch
@group(0) @binding(14) var<storage, read_write> qkv: array<f32>;       // [qkv_rows]
@group(0) @binding(15) var<storage, read_write> slots: array<Slot>;    // [1]

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

var<private> epoch: u32;  // of this dispatch, from 1

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

// A vector's place in `exchange`: where its halves begin, how many it has, and which count is its own.
struct Sent { first: u32, halves: u32, count: u32 }

fn sent_h() -> Sent { return Sent(0, params.dim / 16, 0); }
fn sent_y() -> Sent { return Sent(3 * (params.dim / 16), params.dim / 16, 1); }
fn sent_activated() -> Sent { return Sent(6 * (params.dim / 16), params.ffn / 16, 2); }
fn copy_units() -> u32 { return 6 * (params.dim / 16) + 3 * (params.ffn / 16); }

// A half as it travels: its first eight elements, high bytes and low ones, its others, and {scale, sum of squares, epoch}. The lowest bit of
// an element of each eight is the epoch's, so that sixteen bytes tell whether they are of this dispatch.
struct Words { a: vec4u, b: vec4u, ends: vec4u }

fn send(to: Sent, half: u32, e: Sixteen, squares: f32) {
  let v = to_int16(e);
  let low = (v.low & vec4u(0xfffffffe, 0xffffffff, 0xfffffffe, 0xffffffff)) | vec4u(epoch & 1, 0, epoch & 1, 0);
  let scale = scale_of(v.scale.x, v.high, low);
  for (var copy = 0u; copy < COPIES; copy++) {
    let i = copy * copy_units() + to.first + half;
    exchange.halves[i] = vec4u(v.high.xy, low.xy);
    exchange.halves[i + to.halves] = vec4u(v.high.zw, low.zw);
    exchange.halves[i + 2 * to.halves] = vec4u(bitcast<vec2u>(scale), bitcast<u32>(squares), epoch);
  }
}

fn has_sent(to: Sent, group: Group) { atomicAdd(&exchange.sent[to.count], select(1, EVERYONE + 1 - group.count.x, group.id.x == 0)); }

fn sent_copy(from_all: Sent, half: u32, copy: u32) -> Words {
  let i = copy * copy_units() + from_all.first + half;
  return Words(exchange.halves[i], exchange.halves[i + from_all.halves], exchange.halves[i + 2 * from_all.halves]);
}
fn arrived(w: Words) -> bool { return (((w.a.z ^ epoch) | (w.b.z ^ epoch)) & 1) == 0 && w.ends.w == epoch; }

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

// Half a microsecond and more for each look at a complete count, which is never the epoch.
fn look_on(count: u32, looks: u32) {
  for (var i = 0u; i < looks && atomicLoad(&exchange.sent[count]) != epoch; i++) {}
}

// Until all have sent; stages it. The sum of its squares, or 0. Uniform control flow only.
fn receive(from_all: Sent, with_squares: bool, at: Lane) -> f32 {
  if (at.lane == 0) {
    var n = 0u;
    while (n < patience && bitcast<i32>(atomicLoad(&exchange.sent[from_all.count]) - EVERYONE * epoch) < 0) { n++; }
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
    var w = sent_copy(from_all, half, 0);
    for (var copy = 1u; copy < COPIES && !arrived(w); copy++) {
      if (patience != 0) { look_on(from_all.count, (1u << (2 * copy - 2)) - 1); }
      w = sent_copy(from_all, half, copy);
    }
    if (!arrived(w)) { atomicStore(&stalled, 1); }
    stage_half(half, pairs, Int16(vec4u(w.a.xy, w.b.xy), vec4u(w.a.zw, w.b.zw), bitcast<vec2f>(w.ends.xy)));
    squares += bitcast<f32>(w.ends.z);
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
  epoch = exchange.epoch + 1;
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
  var r = Rows();
  var held = Held();
  for (var base = 0u; base < rows; base += 2 * teams) {
    let i = base + 2 * subgroup(at);
    r = rows_from(first_row + i, params.dim, o_pairs);
    held = hold(O, r, sublane(at), lanes);  // not before: what attention left would come behind these weights, in any workgroup
    let sums = params.alpha * multiply(O, held, r, at);
    if (sublane(at) == 0 && i < rows) {
      kept[i] = sums.x + x[first_row + i];
      kept[i + 1] = sums.y + x[first_row + i + 1];
    }
  }
  workgroupBarrier();
  if (at.lane < own.y) { send_rows(sent_h(), own.x + at.lane, at.lane, false); }
  workgroupBarrier();
  if (at.lane == 0) { has_sent(sent_h(), group); }

  // act(G n) * (U n)
  let mine = part_of(params.ffn / 16, group);
  let pairs = params.dim / 64;
  r = rows_from(2 * (16 * mine.x + subgroup(at)), 2 * params.ffn, pairs);
  held = hold(GATE_UP, r, sublane(at), lanes);
  var scale = inverse_rms(receive(sent_h(), true, at));
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
      send(sent_activated(), mine.x + base / 16 + at.lane, kept16(WORKGROUP_SIZE + 16 * at.lane), 0);
    }
    workgroupBarrier();
  }
  if (at.lane == 0) { has_sent(sent_activated(), group); }

  // y = h + alpha D of it
  let down_pairs = params.ffn / 64;
  r = rows_from(first_row + 2 * subgroup(at), params.dim, down_pairs);
  held = hold(DOWN, r, sublane(at), lanes);
  receive(sent_activated(), false, at);
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

  workgroupBarrier();
  // Also where nobody reads it: what each dispatch replaces tells the epochs apart.
  if (at.lane < own.y) { send_rows(sent_y(), own.x + at.lane, at.lane, params.qkv_rows != 0); }
  workgroupBarrier();
  if (at.lane == 0) { has_sent(sent_y(), group); }

  // qkv = W m
  if (params.qkv_rows != 0) {
    let part = part_of(params.qkv_rows, group);
    let first = part.x;
    let count = part.y;
    r = rows_from(first + 2 * subgroup(at), params.qkv_rows, pairs);
    held = hold(QKV, r, sublane(at), lanes);
    scale = inverse_rms(receive(sent_y(), true, at));
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

  if (at.lane == 0) {
    if (atomicLoad(&stalled) != 0) { slots[0].stopped = STOPPED_STALLED; }
    if (group.id.x == 0) { exchange.epoch = epoch; }  // all have read it, since all have sent
  }
}
