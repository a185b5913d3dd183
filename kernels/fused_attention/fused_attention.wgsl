// fused_attention.wgsl: softmax(scale * q k^T) v of a decode step, row r of which is the newest position of slot r; with
// FROM_QKV, of rows of [q | k | v], whose q and k are rotated, and whose k and v go into the cache.
//
// A workgroup serves up to TEAM query heads of a KV head. KEY_LANES lanes of a subgroup hold a key, and its value, between
// them: KEYS at a time, whose loads are all under way at once and begin before anything waits for the query. Each such
// group of lanes keeps its own largest score and sums in registers (the online softmax of Milakov and Gimelshein, 2018);
// they meet once, at the end. Sums in f32.
// With SPLIT the workgroups that share a query's keys leave what they found in `parts`, and the last one to do so combines it
// (shared/parts.wgsl).
// Grid: (kv_heads * teams, splits, rows). The newest key is with the last split's; only the first team's workgroup writes it.
// Limits: 65,535 rows, 128 splits; subgroups of KEY_LANES lanes at least.
// Beyond the plan: subgroups force it, whose lanes keep a key between them. Replaces nothing by itself: it does what split_qkv and
// then attention_decode do.

#import lane
#import slot
#import kv
#import parts
#import rope

override WORKGROUP_SIZE: u32 = 32;
override F16_KV: bool = true;     // k and v are f16, two a word
override FROM_QKV: bool = true;   // else q is as attention takes it, and the cache holds the newest key
override SPLIT: bool = false;     // workgroups share a query's keys
// HEAD_DIM: a multiple of 4 KEY_LANES, with F16_KV of 8 KEY_LANES; 8 to 256
// TEAM: query heads of a workgroup, at most; 1 to 4
// KEY_LANES: lanes that hold a key; powers of two up to 32
// KEYS: keys that they load at once; 1 to 8

struct Params {
  rows: u32,
  heads: u32,
  kv_heads: u32,
  scale: f32,
  attn_softcap: f32,    // 0: off
  sliding_window: u32,  // 0: off
  kv_layout: u32,       // of kv.wgsl
  kv_rows: u32,
  capacity: u32,
  page_size: u32,
  splits: u32,          // with SPLIT: workgroups that may share a query's keys,
  split_keys: u32,      // and the fewest keys worth one
  max_seq: u32,
  rotary_dim: u32,      // even, <= HEAD_DIM
  interleaved: u32,     // 1: pairs (2i, 2i + 1), 0: (i, i + rotary_dim / 2)
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<f32>;            // [rows, (heads + 2 kv_heads) * HEAD_DIM], or q alone: [rows, heads * HEAD_DIM]
@group(0) @binding(2) var<storage, read> rope: array<f32>;           // [2, max_seq, rotary_dim / 2]: cosines, then sines
@group(0) @binding(3) var<storage, read> slots: array<Slot>;         // [rows]
@group(0) @binding(4) var<storage, read> block_table: array<u32>;    // [rows, capacity / page_size], read if paged
@group(0) @binding(5) var<storage, read_write> k: array<vec4u>;      // [kv_rows, kv_heads, HEAD_DIM] f32 or f16
@group(0) @binding(6) var<storage, read_write> v: array<vec4u>;      // [kv_rows, kv_heads, HEAD_DIM] f32 or f16
// Sums [rows, heads, splits, HEAD_DIM], then {peak, total} [rows, heads, splits, 2], then how many have come [rows, heads].
@group(0) @binding(7) var<storage, read_write> parts: array<atomic<u32>>;  // zeros, and zeros again afterwards
@group(0) @binding(8) var<storage, read_write> out: array<f32>;      // [rows, heads, HEAD_DIM]

const HEAD_FOURS = HEAD_DIM / 4;
const FOURS = HEAD_FOURS / KEY_LANES;  // of a head, a lane's

var<workgroup> query: array<vec4f, TEAM * HEAD_FOURS>;                          // scaled
var<workgroup> newest: array<vec4u, select(1, 2 * HEAD_FOURS, FROM_QKV)>;       // key and value as the cache has them
var<workgroup> ends: array<vec2f, TEAM * WORKGROUP_SIZE / KEY_LANES>;           // {peak, total} [subgroups, TEAM]
var<workgroup> sums: array<vec4f, TEAM * HEAD_FOURS * WORKGROUP_SIZE / KEY_LANES>;  // [subgroups, TEAM, HEAD_DIM], to be weighted by the ends
var<workgroup> pairs: array<vec4f, select(1, 64 * TEAM, SPLIT)>;                // for parts.wgsl

fn head_dim() -> u32 { return HEAD_DIM; }
fn keep(i: u32, two: vec4f) { pairs[i] = two; }
fn found(i: u32) -> vec2f {
  let two = pairs[i / 2];
  return select(two.xy, two.zw, (i & 1) != 0);
}

// A head in the cache is read 16 bytes at a time: so many units of it, and of them a lane's.
fn head_units() -> u32 { return select(HEAD_FOURS, HEAD_FOURS / 2, F16_KV); }
fn lane_units() -> u32 { return select(FOURS, FOURS / 2, F16_KV); }

// Which four of a head the lane that is `part` of a key has as its j-th.
fn four_of(part: u32, j: u32) -> u32 { return select(j * KEY_LANES + part, 2 * (j / 2 * KEY_LANES + part) + (j & 1), F16_KV); }
fn four_in(unit: vec4u, j: u32) -> vec4f {
  if (!F16_KV) { return bitcast<vec4f>(unit); }
  let half = select(unit.xy, unit.zw, (j & 1) != 0);
  return vec4f(unpack2x16float(half.x), unpack2x16float(half.y));
}
fn unit_of(j: u32) -> u32 { return select(j, j / 2, F16_KV); }  // among a lane's

// The positions that a row sees in the cache, and besides them its newest one, where it has a row to go to.
struct Keys { first: u32, count: u32, position: u32, newest: bool }

fn keys_of(row: u32) -> Keys {
  let position = slots[row].position;
  if (slots[row].stopped != 0) { return Keys(0, 0, position, false); }
  let ring = params.kv_layout == KV_RING;
  var end = select(position + 1, position, FROM_QKV);
  var first = 0u;
  if (params.sliding_window != 0) { first = max(position + 1, params.sliding_window) - params.sliding_window; }
  if (ring) { first = max(first, max(position + 1, params.capacity) - params.capacity); }
  if (!ring) { end = min(end, params.capacity); }
  let has_row = (ring | (position < params.capacity)) && kv_row(kv_run(row, position), 0) < params.kv_rows;
  return Keys(first, max(end, first) - first, position, FROM_QKV & has_row);
}

// Four elements of a head of qkv from its i-th on; rotated, but of v.
fn elements(base: u32, i: u32, position: u32, of_v: bool) -> vec4f {
  var e = vec4f();
  for (var j = 0u; j < 4; j++) {
    e[j] = qkv[base + i + j];
    if (!FROM_QKV | of_v | (i + j >= params.rotary_dim)) { continue; }
    let turn = turn_of(i + j, position);
    e[j] = e[j] * turn.cos + qkv[base + turn.other] * turn.sin;
  }
  return e;
}

fn row_elements() -> u32 { return select(params.heads, params.heads + 2 * params.kv_heads, FROM_QKV) * HEAD_DIM; }

// The queries of `heads` heads from the first_head of row on; zeros for those that the team lacks.
fn stage_query(row: u32, first_head: u32, heads: u32, position: u32, at: Lane) {
  for (var i = at.lane; i < TEAM * HEAD_FOURS; i += WORKGROUP_SIZE) {
    let h = i / HEAD_FOURS;
    let e = elements(row * row_elements() + (first_head + min(h, heads - 1)) * HEAD_DIM, 4 * (i % HEAD_FOURS), position, false);
    query[i] = select(vec4f(), params.scale * e, h < heads);
  }
}

// The row's own key and value, as they go into the cache.
fn stage_newest(row: u32, kv_head: u32, position: u32, at: Lane) {
  for (var i = at.lane; i < 2 * head_units(); i += WORKGROUP_SIZE) {
    let of_v = i >= head_units();
    let base = row * row_elements() + (params.heads + kv_head + select(0, params.kv_heads, of_v)) * HEAD_DIM;
    let u = i - select(0, head_units(), of_v);
    if (F16_KV) {
      let e = elements(base, 8 * u, position, of_v);
      let f = elements(base, 8 * u + 4, position, of_v);
      newest[i] = vec4u(kv_halves(e.xy), kv_halves(e.zw), kv_halves(f.xy), kv_halves(f.zw));
    } else {
      newest[i] = bitcast<vec4u>(elements(base, 4 * u, position, of_v));
    }
  }
}

// A lane's parts of KEYS keys and values.
struct Loaded { k: array<vec4u, KEYS * FOURS>, v: array<vec4u, KEYS * FOURS> }

// Keys first, first + stride, … of a run of n; the last one for those beyond.
fn load(run: KvRun, first: u32, stride: u32, n: u32, kv_head: u32, part: u32) -> Loaded {
  var loaded = Loaded();
  for (var i = 0u; i < KEYS; i++) {
    let row = min(kv_row(run, min(first + i * stride, n - 1)), params.kv_rows - 1);
    let start = (row * params.kv_heads + kv_head) * head_units() + part;
    for (var u = 0u; u < lane_units(); u++) {
      loaded.k[i * FOURS + u] = k[start + u * KEY_LANES];
      loaded.v[i * FOURS + u] = v[start + u * KEY_LANES];
    }
  }
  return loaded;
}

fn load_newest(part: u32) -> Loaded {
  var loaded = Loaded();
  for (var u = 0u; u < lane_units(); u++) {
    loaded.k[u] = newest[u * KEY_LANES + part];
    loaded.v[u] = newest[head_units() + u * KEY_LANES + part];
  }
  return loaded;
}

// What a group of lanes knows of the keys that it has seen.
struct Seen {
  peak: array<f32, TEAM>,          // the largest score
  total: array<f32, TEAM>,         // of exp(score - peak)
  sum: array<vec4f, TEAM * FOURS>  // of the values, so weighted: this lane's part
}

fn softcapped(score: f32) -> f32 {
  if (params.attn_softcap == 0) { return score; }
  return params.attn_softcap * tanh(clamp(score / params.attn_softcap, -10.0, 10.0));
}

// Adds the first `live` of the loaded keys. Subgroup-uniform control flow only.
fn look(before: Seen, own_query: array<vec4f, TEAM * FOURS>, loaded: Loaded, live: u32) -> Seen {
  var seen = before;
  for (var h = 0u; h < TEAM; h++) {
    var score = array<f32, KEYS>();
    var peak = seen.peak[h];
    for (var i = 0u; i < KEYS; i++) {
      var s = 0.0;
      for (var j = 0u; j < FOURS; j++) { s += dot(own_query[h * FOURS + j], four_in(loaded.k[i * FOURS + unit_of(j)], j)); }
      for (var mask = 1u; mask < KEY_LANES; mask *= 2) { s += subgroup_xor_f32(s, mask); }
      score[i] = select(LOWEST, softcapped(s), i < live);
      peak = max(peak, score[i]);
    }
    let decay = exp(seen.peak[h] - peak);
    seen.peak[h] = peak;
    seen.total[h] *= decay;
    for (var j = 0u; j < FOURS; j++) { seen.sum[h * FOURS + j] *= decay; }
    for (var i = 0u; i < KEYS; i++) {
      let weight = select(0, exp(score[i] - peak), i < live);
      seen.total[h] += weight;
      for (var j = 0u; j < FOURS; j++) { seen.sum[h * FOURS + j] += weight * four_in(loaded.v[i * FOURS + unit_of(j)], j); }
    }
  }
  return seen;
}

// What the groups of a subgroup know together. Subgroup-uniform control flow only.
fn meet(before: Seen, at: Lane) -> Seen {
  var seen = before;
  for (var mask = KEY_LANES; mask < min(subgroup_size(at), WORKGROUP_SIZE); mask *= 2) {
    for (var h = 0u; h < TEAM; h++) {
      let peak = max(seen.peak[h], subgroup_xor_f32(seen.peak[h], mask));
      let weight = exp(seen.peak[h] - peak);
      seen.peak[h] = peak;
      let total = weight * seen.total[h];
      seen.total[h] = total + subgroup_xor_f32(total, mask);
      for (var j = 0u; j < FOURS; j++) {
        let sum = weight * seen.sum[h * FOURS + j];
        seen.sum[h * FOURS + j] = sum + subgroup_xor_vec4f(sum, mask);
      }
    }
  }
  return seen;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let row = group.id.z;
  let split = group.id.y;
  let ratio = params.heads / params.kv_heads;
  let teams = (ratio + TEAM - 1) / TEAM;
  let team_heads = (ratio + teams - 1) / teams;
  let team = group.id.x % teams;
  let kv_head = group.id.x / teams;
  let heads = min(team_heads, ratio - team * team_heads);
  let in_row = kv_head * ratio + team * team_heads;
  let first_head = row * params.heads + in_row;

  let keys = keys_of(row);
  var end = keys.count;  // of this workgroup's keys among those in the cache, and where they begin
  var first = 0u;
  var used = 1u;         // workgroups that have keys, or the first where there are none
  if (SPLIT) {
    let all = keys.count + select(0u, 1u, keys.newest);
    let size = max((all + params.splits - 1) / params.splits, params.split_keys);
    used = max(1, (all + size - 1) / size);
    if (split >= used) { return; }
    first = split * size;
    end = min(end, first + size);
  }
  // The keys' groups of lanes take them in turn.
  let groups = WORKGROUP_SIZE / KEY_LANES;
  let own = subgroup(at) * (subgroup_size(at) / KEY_LANES) + sublane(at) / KEY_LANES;
  let part = sublane(at) % KEY_LANES;
  let run = kv_run(row, keys.first);
  var loaded = Loaded();
  if (first < end) { loaded = load(run, first + own, groups, end, kv_head, part); }

  let has_newest = FROM_QKV & keys.newest & (split + 1 == used);
  stage_query(row, in_row, heads, keys.position, at);
  if (has_newest) { stage_newest(row, kv_head, keys.position, at); }
  workgroupBarrier();
  if (has_newest & (team == 0)) {
    let to = kv_row(kv_run(row, keys.position), 0);
    for (var u = at.lane; u < head_units(); u += WORKGROUP_SIZE) {
      k[(to * params.kv_heads + kv_head) * head_units() + u] = newest[u];
      v[(to * params.kv_heads + kv_head) * head_units() + u] = newest[head_units() + u];
    }
  }
  var own_query = array<vec4f, TEAM * FOURS>();
  for (var h = 0u; h < TEAM; h++) {
    for (var j = 0u; j < FOURS; j++) { own_query[h * FOURS + j] = query[h * HEAD_FOURS + four_of(part, j)]; }
  }

  var seen = Seen();
  for (var h = 0u; h < TEAM; h++) { seen.peak[h] = LOWEST; }
  // In rounds: those of the cache, and one of the newest key, which is the first group's.
  let held = groups * KEYS;
  let cached = (max(end, first) - first + held - 1) / held;
  for (var round = 0u; round < cached + select(0u, 1u, has_newest); round++) {
    let next = first + round * held + own;
    var live = (max(end, next) - next + groups - 1) / groups;
    if (round == cached) {
      loaded = load_newest(part);
      live = select(0u, 1u, own == 0);
    }
    seen = look(seen, own_query, loaded, live);
    if (round + 1 < cached) { loaded = load(run, next + held, groups, end, kv_head, part); }
  }

  // The subgroups meet.
  seen = meet(seen, at);
  for (var h = 0u; h < TEAM; h++) {
    let to = subgroup(at) * TEAM + h;
    if (sublane(at) == 0) { ends[to] = vec2f(seen.peak[h], seen.total[h]); }
    if (sublane(at) < KEY_LANES) {
      for (var j = 0u; j < FOURS; j++) { sums[to * HEAD_FOURS + four_of(part, j)] = seen.sum[h * FOURS + j]; }
    }
  }
  workgroupBarrier();
  for (var i = at.lane; i < heads * HEAD_FOURS; i += WORKGROUP_SIZE) {
    let h = i / HEAD_FOURS;
    var peak = LOWEST;
    for (var s = 0u; s < subgroups(at); s++) { peak = max(peak, ends[s * TEAM + h].x); }
    var total = 0.0;
    var sum = vec4f();
    for (var s = 0u; s < subgroups(at); s++) {
      let end = ends[s * TEAM + h];
      let weight = exp(end.x - peak);
      total += weight * end.y;
      sum += weight * sums[s * TEAM * HEAD_FOURS + i];
    }
    if (SPLIT & (used > 1)) {
      for (var j = 0u; j < 4; j++) { put(sums_at(first_head + h, split) + 4 * (i % HEAD_FOURS) + j, sum[j]); }
      if (i % HEAD_FOURS == 0) {
        put(peak_at(first_head + h, split), peak);
        put(peak_at(first_head + h, split) + 1, total);
      }
    } else {
      sum = select(vec4f(), sum / total, total > 0);
      for (var j = 0u; j < 4; j++) { out[first_head * HEAD_DIM + 4 * i + j] = sum[j]; }
    }
  }
  if (!SPLIT | (used == 1)) { return; }
  if (is_last(first_head, used, at)) { combine(first_head, heads, used, at); }
}
