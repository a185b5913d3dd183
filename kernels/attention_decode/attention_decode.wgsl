// attention_decode.wgsl: softmax(scale * q k^T) v of one query per row over the keys its sequence has so far.
//
// A workgroup serves one query head, or with MULTIHEAD up to TEAM that share a KV head, and walks the keys in
// chunks: scores (a lane or four a key, four keys each), their exponentials, then the values (lanes side by
// side over head_dim, four keys each), rescaled when a chunk raises the maximum. Sums in f32.
// With SPLIT the workgroups that share a query's keys leave what they found in `parts`, and the last one to do so combines it
// (shared/parts.wgsl).
// Grid: (kv_heads * teams, splits, rows). Any number of keys.
// Limits: head_dim 256, 65,535 rows, 128 splits; heads a multiple of kv_heads; WORKGROUP_SIZE head_dim / 8 at least; VEC4 takes head_dim in
// fours, in eights of f16.
// Replaces the old attention_decode_optimized.wgsl (main, main_multihead, main_f16kv), attention_decode_subgroup.wgsl
// and attention_decode_chunked_f16kv.wgsl.

#import lane
#import slot
#import kv
#import parts

override WORKGROUP_SIZE: u32 = 64;     // 16 to 128, at least head_dim / 8
override F16_KV: bool = false;         // k and v are f16, two a word, each head rounded up to even
override Q8_KV: bool = false;          // k and v are of q8_0, as kv.wgsl has it; heads of a multiple of 32
override USE_SUBGROUPS: bool = true;   // four lanes of a subgroup share a key, so that its loads lie side by side
override MULTIHEAD: bool = false;      // the query heads of a KV head share its keys and values
override TEAM: u32 = 4;                // up to this many of them, 2 to 4
override VEC4: bool = false;           // head_dim is a multiple of 4 (f16: 8); not of q8_0
override CHUNKED: bool = false;        // 1024 scores at a time instead of 2048: less memory, more barriers
override SPLIT: bool = false;          // workgroups share a query's keys
override HEAD_DIM: u32 = 0;            // head_dim, so that its loops unroll; 0: whatever params say

struct Params {
  rows: u32,
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  kv_len: u32,          // keys of row 0, and one more for each row after it, if kv_len_source == 0
  kv_len_source: u32,   // 1: the positions of slots
  prefill: u32,         // 0: row r is slot r's, at its position. 1: rows are `slot`'s, from its position on
  slot: u32,
  scale: f32,
  attn_softcap: f32,    // 0: off
  sliding_window: u32,  // 0: off
  kv_layout: u32,       // of kv.wgsl
  kv_rows: u32,
  capacity: u32,
  page_size: u32,
  splits: u32,          // with SPLIT: workgroups that may share a query's keys,
  split_keys: u32,      // and the fewest keys worth one
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;            // [rows, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<vec4u>;          // [kv_rows, kv_heads, head_dim] f32, f16 or q8_0
@group(0) @binding(3) var<storage, read> v: array<vec4u>;          // [kv_rows, kv_heads, head_dim] f32, f16 or q8_0
@group(0) @binding(4) var<storage, read> slots: array<Slot>;       // [slots], unread if kv_len_source == 0
@group(0) @binding(5) var<storage, read> block_table: array<u32>;  // [slots, capacity / page_size], read if paged
// Sums [rows, heads, splits, head_dim], then {peak, total} [rows, heads, splits, 2], then how many have come [rows, heads].
@group(0) @binding(6) var<storage, read_write> parts: array<atomic<u32>>;  // zeros, and zeros again afterwards
@group(0) @binding(7) var<storage, read_write> out: array<f32>;    // [rows, heads, head_dim]

// [team, 256 / 4], scaled; at the end {peak, total} [team, splits], two pairs each.
var<workgroup> query: array<vec4f, 64 * select(1, TEAM, MULTIHEAD)>;
var<workgroup> scores: array<vec4f, select(512, 256, CHUNKED)>;       // [team, chunk / 4] four keys; at the end the lanes' sums
var<workgroup> by_subgroup: array<vec4f, WORKGROUP_SIZE>;             // [subgroups] by head

fn head_dim() -> u32 { return select(params.head_dim, HEAD_DIM, HEAD_DIM != 0); }
fn team_size() -> u32 { return select(1u, TEAM, MULTIHEAD); }
fn chunk() -> u32 { return select(512u, 256u, CHUNKED) / team_size() * 4; }  // keys
fn key_lanes() -> u32 { return select(1u, 4u, USE_SUBGROUPS); }

// What the workgroup's lanes carry from chunk to chunk; by head.
var<private> peak: vec4f;
var<private> total: vec4f;             // of this lane's exponentials
var<private> sums: array<vec4f, 8>;    // [4, 2] of this lane's values

// A head in the cache is read in units of four elements, or eight: four words, or of q8_0 two words of integers, that of their scale,
// and its dimension.
fn eights() -> bool { return F16_KV | Q8_KV; }
fn words() -> u32 { return select(head_dim(), (head_dim() + 1) / 2, F16_KV); }
fn units() -> u32 { return select((words() + 3) / 4, head_dim() / 8, Q8_KV); }

// Word i of a head, without what lies behind the head.
fn inside(i: u32, word: u32) -> u32 {
  if (!F16_KV) { return select(0, word, i < head_dim()); }
  return select(select(0, word & 0xffff, 2 * i < head_dim()), word, 2 * i + 1 < head_dim());
}
fn k_word(head: u32, i: u32) -> u32 {
  let word = head * words() + min(i, words() - 1);
  return inside(i, k[word / 4][word % 4]);
}
fn v_word(head: u32, i: u32) -> u32 {
  let word = head * words() + min(i, words() - 1);
  return inside(i, v[word / 4][word % 4]);
}
fn q8_heads() -> u32 { return params.kv_rows * params.kv_heads; }
fn k_unit(head: u32, u: u32) -> vec4u {
  if (Q8_KV) {
    let i = 2 * (head * units() + u);
    let s = q8_scale_word(q8_heads(), head_dim(), head, 8 * u);
    return vec4u(k[i / 4][i % 4], k[i / 4][i % 4 + 1], k[s / 4][s % 4], 8 * u);
  }
  if (VEC4) { return k[head * units() + u]; }
  return vec4u(k_word(head, 4 * u), k_word(head, 4 * u + 1), k_word(head, 4 * u + 2), k_word(head, 4 * u + 3));
}
fn v_unit(head: u32, u: u32) -> vec4u {
  if (Q8_KV) {
    let i = 2 * (head * units() + u);
    let s = q8_scale_word(q8_heads(), head_dim(), head, 8 * u);
    return vec4u(v[i / 4][i % 4], v[i / 4][i % 4 + 1], v[s / 4][s % 4], 8 * u);
  }
  if (VEC4) { return v[head * units() + u]; }
  return vec4u(v_word(head, 4 * u), v_word(head, 4 * u + 1), v_word(head, 4 * u + 2), v_word(head, 4 * u + 3));
}
fn low(unit: vec4u) -> vec4f {
  if (Q8_KV) { return q8_scale(unit.z, unit.w) * vec4f(unpack4xI8(unit.x)); }
  if (F16_KV) { return vec4f(unpack2x16float(unit.x), unpack2x16float(unit.y)); }
  return bitcast<vec4f>(unit);
}
fn high(unit: vec4u) -> vec4f {
  if (Q8_KV) { return q8_scale(unit.z, unit.w) * vec4f(unpack4xI8(unit.y)); }
  return vec4f(unpack2x16float(unit.z), unpack2x16float(unit.w));
}

// The key i of a run and the three after it, of KV head kv_head, as heads of the cache; the last one again for those beyond.
fn four_heads(run: KvRun, i: u32, n: u32, kv_head: u32) -> vec4u {
  let rows = vec4u(kv_row(run, i), kv_row(run, min(i + 1, n - 1)), kv_row(run, min(i + 2, n - 1)), kv_row(run, min(i + 3, n - 1)));
  return min(rows, vec4u(params.kv_rows - 1)) * params.kv_heads + kv_head;
}

struct Keys { slot: u32, first: u32, count: u32 }  // positions

// What row sees.
fn keys_of(row: u32) -> Keys {
  var slot = 0u;
  var length = params.kv_len + row;
  var written = params.kv_len + params.rows - 1;
  if (params.kv_len_source != 0) {
    slot = select(row, params.slot, params.prefill != 0);
    length = slots[slot].position + 1 + select(0, row, params.prefill != 0);
    written = slots[slot].position + select(1, params.rows, params.prefill != 0);
    if (params.prefill == 0 && slots[slot].stopped != 0) { length = 0; }
  }
  var first = 0u;
  if (params.sliding_window != 0) { first = max(length, params.sliding_window) - params.sliding_window; }
  if (params.kv_layout == KV_RING) {
    first = max(first, max(written, params.capacity) - params.capacity);
  } else {
    length = min(length, params.capacity);
  }
  return Keys(slot, first, max(length, first) - first);
}

fn split_keys(keys: Keys) -> u32 { return max((keys.count + params.splits - 1) / params.splits, params.split_keys); }

// Over the workgroup, to every lane; a barrier must lie between two calls.
fn highest_of(value: vec4f, at: Lane) -> vec4f {
  var result = subgroup_max_vec4f(value);
  if (sublane(at) == 0) { by_subgroup[subgroup(at)] = result; }
  workgroupBarrier();
  for (var i = 0u; i < subgroups(at); i++) { result = max(result, by_subgroup[i]); }
  return result;
}
fn sum_of(value: vec4f, at: Lane) -> vec4f {
  let own = subgroup_sum_vec4f(value);
  if (sublane(at) == 0) { by_subgroup[subgroup(at)] = own; }
  workgroupBarrier();
  var result = vec4f();
  for (var i = 0u; i < subgroups(at); i++) { result += by_subgroup[i]; }
  return result;
}

fn softcapped(score: vec4f) -> vec4f {
  if (params.attn_softcap == 0) { return score; }
  return params.attn_softcap * tanh(clamp(score / params.attn_softcap, vec4f(-10), vec4f(10)));
}

fn stage_query(first_head: u32, heads: u32, at: Lane) {
  let row_units = (head_dim() + 3) / 4;
  for (var i = at.lane; i < team_size() * row_units; i += WORKGROUP_SIZE) {
    let h = i / row_units;
    let d = i % row_units * 4;
    let start = (first_head + min(h, heads - 1)) * head_dim();
    var e = vec4f();
    for (var j = 0u; j < 4; j++) { e[j] = select(0, q[start + min(d + j, head_dim() - 1)], d + j < head_dim()); }
    query[h * 64 + d / 4] = params.scale * e;
  }
}

// Head h's products with unit u of four keys.
fn products(keys: array<vec4u, 4>, h: u32, u: u32) -> vec4f {
  let e = query[h * 64 + select(u, 2 * u, eights())];
  var sum = vec4f(dot(low(keys[0]), e), dot(low(keys[1]), e), dot(low(keys[2]), e), dot(low(keys[3]), e));
  if (eights()) {
    let f = query[h * 64 + 2 * u + 1];
    sum += vec4f(dot(high(keys[0]), f), dot(high(keys[1]), f), dot(high(keys[2]), f), dot(high(keys[3]), f));
  }
  return sum;
}

// Writes head h's scores of four keys; the largest.
fn write_scores(score: vec4f, h: u32, key: u32) -> f32 {
  let capped = softcapped(score);
  scores[(h * chunk() + key) / 4] = capped;
  return max(max(capped.x, capped.y), max(capped.z, capped.w));
}

// The scores of n keys; by head, the largest of this lane's.
fn score_keys(run: KvRun, n: u32, kv_head: u32, at: Lane) -> vec4f {
  let key_slot = select(at.lane, subgroup(at) * (subgroup_size(at) / 4) + sublane(at) / 4, USE_SUBGROUPS);
  let part = select(0, sublane(at) % 4, USE_SUBGROUPS);
  var best = vec4f(LOWEST);
  for (var key = 4 * key_slot; key < n; key += 4 * WORKGROUP_SIZE / key_lanes()) {
    let head = four_heads(run, key, n, kv_head);
    var a = vec4f();  // of the team's heads
    var b = vec4f();
    var c = vec4f();
    var d = vec4f();
    for (var u = part; u < units(); u += key_lanes()) {
      let keys = array<vec4u, 4>(k_unit(head.x, u), k_unit(head.y, u), k_unit(head.z, u), k_unit(head.w, u));
      a += products(keys, 0, u);
      if (team_size() > 1) { b += products(keys, 1, u); }
      if (team_size() > 2) { c += products(keys, 2, u); }
      if (team_size() > 3) { d += products(keys, 3, u); }
    }
    if (USE_SUBGROUPS) {
      // Added up over the four lanes, head by head: lane i of them is left with head i.
      let odd = (part & 1) != 0;
      let high = (part & 2) != 0;
      a = select(a, b, odd) + subgroup_xor_vec4f(select(b, a, odd), 1);
      c = select(c, d, odd) + subgroup_xor_vec4f(select(d, c, odd), 1);
      a = select(a, c, high) + subgroup_xor_vec4f(select(c, a, high), 2);
      if (part < team_size()) {
        best = max(best, select(vec4f(LOWEST), vec4f(write_scores(a, part, key)), vec4u(0, 1, 2, 3) == vec4u(part)));
      }
    } else {
      best.x = max(best.x, write_scores(a, 0, key));
      if (team_size() > 1) { best.y = max(best.y, write_scores(b, 1, key)); }
      if (team_size() > 2) { best.z = max(best.z, write_scores(c, 2, key)); }
      if (team_size() > 3) { best.w = max(best.w, write_scores(d, 3, key)); }
    }
  }
  return best;
}

// Scores of n keys to exponentials, zero beyond n; by head, the sum of this lane's.
fn weigh_keys(n: u32, at: Lane) -> vec4f {
  var sums = vec4f();
  for (var h = 0u; h < team_size(); h++) {
    var sum = vec4f();
    for (var key = 4 * at.lane; key < n; key += 4 * WORKGROUP_SIZE) {
      let i = (h * chunk() + key) / 4;
      let p = select(vec4f(), exp(scores[i] - peak[h]), key + vec4u(0, 1, 2, 3) < vec4u(n));
      scores[i] = p;
      sum += p;
    }
    sums = select(sums, vec4f(sum.x + sum.y + sum.z + sum.w), vec4u(0, 1, 2, 3) == vec4u(h));
  }
  return sums;
}

// A lane's share of the values: every slots-th four keys from `slot` on, and of their head eight dimensions: those of
// one unit, or of f32 the units `unit` and `other`.
struct Place { slots: u32, slot: u32, unit: u32, other: u32 }

fn place(at: Lane) -> Place {
  let lanes = select((units() + 1) / 2, units(), eights());
  let unit = at.lane % lanes;
  return Place(WORKGROUP_SIZE / lanes, at.lane / lanes, unit, unit + lanes);
}

// Adds four keys' values to head h's sums: `a` for the lane's first four dimensions, `b` for the others.
fn add_four(h: u32, key: u32, a: array<vec4f, 4>, b: array<vec4f, 4>) {
  let p = scores[(h * chunk() + key) / 4];
  sums[2 * h] += p.x * a[0] + p.y * a[1] + p.z * a[2] + p.w * a[3];
  sums[2 * h + 1] += p.x * b[0] + p.y * b[1] + p.z * b[2] + p.w * b[3];
}

// Four keys' values: `a` of the lane's first four dimensions, `b` of the others.
struct Values { a: array<vec4f, 4>, b: array<vec4f, 4> }

fn values_at(run: KvRun, key: u32, n: u32, kv_head: u32, own: Place) -> Values {
  let head = four_heads(run, key, n, kv_head);
  let unit = array<vec4u, 4>(v_unit(head.x, own.unit), v_unit(head.y, own.unit), v_unit(head.z, own.unit), v_unit(head.w, own.unit));
  var values = Values(array<vec4f, 4>(low(unit[0]), low(unit[1]), low(unit[2]), low(unit[3])),
                      array<vec4f, 4>(high(unit[0]), high(unit[1]), high(unit[2]), high(unit[3])));
  if (!eights()) {
    let other = min(own.other, units() - 1);
    values.b = array<vec4f, 4>(low(v_unit(head.x, other)), low(v_unit(head.y, other)), low(v_unit(head.z, other)), low(v_unit(head.w, other)));
  }
  return values;
}

fn add_to_heads(key: u32, values: Values) {
  add_four(0, key, values.a, values.b);
  if (team_size() > 1) { add_four(1, key, values.a, values.b); }
  if (team_size() > 2) { add_four(2, key, values.a, values.b); }
  if (team_size() > 3) { add_four(3, key, values.a, values.b); }
}

fn add_values(run: KvRun, n: u32, kv_head: u32, own: Place) {
  if (own.slot >= own.slots) { return; }
  if (HEAD_DIM == 0) {
    for (var key = 4 * own.slot; key < n; key += 4 * own.slots) { add_to_heads(key, values_at(run, key, n, kv_head, own)); }
    return;
  }
  // Two at once, so that their loads overlap.
  for (var key = 4 * own.slot; key < n; key += 8 * own.slots) {
    let second = key + 4 * own.slots;
    let values = values_at(run, key, n, kv_head, own);
    let others = values_at(run, min(second, n - 1), n, kv_head, own);
    add_to_heads(key, values);
    if (second < n) { add_to_heads(second, others); }
  }
}

// Puts this lane's sums of head h where those of a head lie whose place is `place`.
fn lay_out(h: u32, place: u32, own: Place) {
  let start = place * 2 * WORKGROUP_SIZE + own.slot * row_stride();
  scores[start + select(own.unit, 2 * own.unit, eights())] = sums[2 * h];
  if (eights()) { scores[start + 2 * own.unit + 1] = sums[2 * h + 1]; }
  else if (own.other < units()) { scores[start + own.other] = sums[2 * h + 1]; }
}
fn row_stride() -> u32 { return units() * select(1u, 2u, eights()); }  // of a slot's sums, in four dimensions

// Adds up the sums over the lanes and writes the results of the heads, or if they are of a part of the keys puts them into parts.
fn write_heads(first_head: u32, heads: u32, in_parts: bool, split: u32, own: Place, at: Lane) {
  let room = select(512u, 256u, CHUNKED) / (2 * WORKGROUP_SIZE);  // heads at a time
  let row_units = (head_dim() + 3) / 4;
  for (var first = 0u; first < heads; first += room) {
    if (own.slot < own.slots) {
      if (first == 0) { lay_out(0, 0, own); }
      if (team_size() > 1 && first <= 1 && 1 < first + room) { lay_out(1, 1 - first, own); }
      if (team_size() > 2 && first <= 2 && 2 < first + room) { lay_out(2, 2 - first, own); }
      if (team_size() > 3 && first <= 3 && 3 < first + room) { lay_out(3, 3 - first, own); }
    }
    workgroupBarrier();
    for (var i = at.lane; i < min(room, heads - first) * row_units; i += WORKGROUP_SIZE) {
      let h = first + i / row_units;
      let d = 4 * (i % row_units);
      var sum = vec4f();
      for (var slot = 0u; slot < own.slots; slot++) {
        sum += scores[(h - first) * 2 * WORKGROUP_SIZE + slot * row_stride() + d / 4];
      }
      if (SPLIT & in_parts) {
        for (var j = 0u; j < min(4, head_dim() - d); j++) { put(sums_at(first_head + h, split) + d + j, sum[j]); }
        continue;
      }
      sum = select(vec4f(), sum / total[h], total[h] > 0);
      for (var j = 0u; j < min(4, head_dim() - d); j++) { out[(first_head + h) * head_dim() + d + j] = sum[j]; }
    }
    workgroupBarrier();
  }
  if (SPLIT & in_parts & (at.lane < heads)) {
    put(peak_at(first_head + at.lane, split), peak[at.lane]);
    put(peak_at(first_head + at.lane, split) + 1, total[at.lane]);
  }
}

// For parts.wgsl: in `query`, two pairs each.
fn keep(i: u32, pairs: vec4f) { query[i] = pairs; }
fn found(i: u32) -> vec2f {
  let pairs = query[i / 2];
  return select(pairs.xy, pairs.zw, (i & 1) != 0);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.z;
  let split = group.id.y;
  let ratio = params.heads / params.kv_heads;
  let teams = (ratio + team_size() - 1) / team_size();
  let team_heads = (ratio + teams - 1) / teams;
  let team = group.id.x % teams;
  let kv_head = group.id.x / teams;
  let heads = min(team_heads, ratio - team * team_heads);
  let first_head = row * params.heads + kv_head * ratio + team * team_heads;

  let keys = keys_of(row);
  var first = 0u;
  var end = keys.count;
  var used = 1u;  // workgroups that have keys, or the first where there are none
  if (SPLIT) {
    used = max(1, (keys.count + split_keys(keys) - 1) / split_keys(keys));
    if (split >= used) { return; }
    first = split * split_keys(keys);
    end = min(end, first + split_keys(keys));
  }
  stage_query(first_head, heads, at);
  workgroupBarrier();

  let own = place(at);
  peak = vec4f(LOWEST);
  for (; first < end; first += chunk()) {
    let n = min(chunk(), end - first);
    let run = kv_run(keys.slot, keys.first + first);
    let before = peak;
    peak = max(peak, highest_of(score_keys(run, n, kv_head, at), at));
    let decay = exp(before - peak);
    sums[0] *= decay.x;
    sums[1] *= decay.x;
    sums[2] *= decay.y;
    sums[3] *= decay.y;
    sums[4] *= decay.z;
    sums[5] *= decay.z;
    sums[6] *= decay.w;
    sums[7] *= decay.w;
    total = total * decay + weigh_keys(n, at);
    workgroupBarrier();
    add_values(run, n, kv_head, own);
    workgroupBarrier();
  }

  total = sum_of(total, at);

  write_heads(first_head, heads, used > 1, split, own, at);
  if (!SPLIT | (used == 1)) { return; }
  if (is_last(first_head, used, at)) { combine(first_head, heads, used, at); }
}
