// fused_attention_lanes.wgsl: fused_attention where the lanes of subgroups multiply.
//
// KEY_LANES lanes of a subgroup hold a key, and its value, between them: KEYS at a time, whose loads are all under way at once. Each such group of
// lanes keeps its own largest score and sums in registers; they meet once, at the end.
// Needs: what fused_attention.wgsl has.

const FOURS = HEAD_FOURS / KEY_LANES;  // of a head, a lane's

var<workgroup> query: array<vec4f, select(TEAM * HEAD_FOURS, 1, MATRIX)>;             // scaled
var<workgroup> newest: array<vec4u, select(1, 2 * HEAD_FOURS, FROM_QKV & !MATRIX)>;   // key and value as the cache has them
var<workgroup> ends: array<vec2f, select(TEAM * WORKGROUP_SIZE / KEY_LANES, 1, MATRIX)>;  // {peak, total} [subgroups, TEAM]
var<workgroup> sums: array<vec4f, select(TEAM * HEAD_FOURS * WORKGROUP_SIZE / KEY_LANES, 1, MATRIX)>;  // [subgroups, TEAM, HEAD_DIM], to be weighted by the ends

// A lane's part of a head, FOURS fours; of up to four heads; and of up to four keys in the cache.
struct Part { a: vec4f, b: vec4f, c: vec4f, d: vec4f }
struct Parts { a: Part, b: Part, c: Part, d: Part }
struct FourUnits { a: Units, b: Units, c: Units, d: Units }

// Units of a head that a lane has.
fn lane_units() -> u32 { return select(FOURS, FOURS / 2, eights()); }

// Which four of a head the lane that is `part` of a key has as its j-th.
fn four_of(part: u32, j: u32) -> u32 { return select(j * KEY_LANES + part, 2 * (j / 2 * KEY_LANES + part) + (j & 1), eights()); }

fn halves_of(two: vec2u) -> vec4f { return vec4f(unpack2x16float(two.x), unpack2x16float(two.y)); }
fn part_of(u: Units) -> Part {
  if (Q8_KV) {
    let a = q8_scale(u.a.z, u.a.w);
    let b = q8_scale(u.b.z, u.b.w);
    return Part(a * vec4f(unpack4xI8(u.a.x)), a * vec4f(unpack4xI8(u.a.y)), b * vec4f(unpack4xI8(u.b.x)), b * vec4f(unpack4xI8(u.b.y)));
  }
  if (F16_KV) { return Part(halves_of(u.a.xy), halves_of(u.a.zw), halves_of(u.b.xy), halves_of(u.b.zw)); }
  return Part(bitcast<vec4f>(u.a), bitcast<vec4f>(u.b), bitcast<vec4f>(u.c), bitcast<vec4f>(u.d));
}

fn part_dot(x: Part, y: Part) -> f32 {
  var sum = dot(x.a, y.a);
  if (FOURS > 1) { sum += dot(x.b, y.b); }
  if (FOURS > 2) { sum += dot(x.c, y.c); }
  if (FOURS > 3) { sum += dot(x.d, y.d); }
  return sum;
}
fn weighted(x: Part, w: f32) -> Part { return Part(w * x.a, w * x.b, w * x.c, w * x.d); }
fn add_weighted(sum: Part, x: Part, w: f32) -> Part { return Part(sum.a + w * x.a, sum.b + w * x.b, sum.c + w * x.c, sum.d + w * x.d); }

// Element i of a head of qkv; rotated, but of v. Without a branch, so that loads overlap.
fn element(base: u32, i: u32, position: u32, of_v: bool) -> f32 {
  let e = qkv_element(base + i);
  if (!FROM_QKV) { return e; }
  let turn = turn_of(min(i, params.rotary_dim - 1), position);
  return select(e * turn.cos + qkv_element(base + turn.other) * turn.sin, e, of_v | (i >= params.rotary_dim));
}
fn elements(base: u32, i: u32, position: u32, of_v: bool) -> vec4f {
  return vec4f(element(base, i, position, of_v), element(base, i + 1, position, of_v), element(base, i + 2, position, of_v),
               element(base, i + 3, position, of_v));
}

// The queries of `heads` heads from the first_head of row on, with zeros for those that the team lacks; and beside them, where it is
// wanted, the row's own key and value, as they go into the cache: in one go, so that all loads are under way at once.
fn stage(s: Share, keys: Keys, has_newest: bool, at: Lane) {
  let queries = TEAM * HEAD_FOURS;
  for (var job = at.lane; job < queries + select(0, 2 * head_units(), has_newest); job += WORKGROUP_SIZE) {
    if (job < queries) {
      let h = job / HEAD_FOURS;
      let e = elements(s.row * row_elements() + (s.in_row + min(h, s.heads - 1)) * HEAD_DIM, 4 * (job % HEAD_FOURS), keys.position, false);
      query[job] = select(vec4f(), params.scale * e, h < s.heads);
      continue;
    }
    let i = job - queries;
    let of_v = i >= head_units();
    let base = s.row * row_elements() + (params.heads + s.kv_head + select(0, params.kv_heads, of_v)) * HEAD_DIM;
    let u = i - select(0, head_units(), of_v);
    if (F16_KV) {
      let e = elements(base, 8 * u, keys.position, of_v);
      let f = elements(base, 8 * u + 4, keys.position, of_v);
      newest[i] = vec4u(kv_halves(e.xy), kv_halves(e.zw), kv_halves(f.xy), kv_halves(f.zw));
    } else {
      newest[i] = bitcast<vec4u>(elements(base, 4 * u, keys.position, of_v));
    }
  }
}

// The query of the team's head h, a lane's part.
fn own_query(h: u32, part: u32) -> Part {
  var q = Part();
  let first = h * HEAD_FOURS;
  q.a = query[first + four_of(part, 0)];
  if (FOURS > 1) { q.b = query[first + four_of(part, 1)]; }
  if (FOURS > 2) { q.c = query[first + four_of(part, 2)]; }
  if (FOURS > 3) { q.d = query[first + four_of(part, 3)]; }
  return q;
}

// A lane's parts of KEYS keys and values.
struct Loaded { k: FourUnits, v: FourUnits }

// Unit i of all, as it lies in memory: what is computed from it here would wait for it.
fn dim_of(i: u32) -> u32 { return 8 * (i % head_units()); }
fn scale_word(i: u32) -> u32 { return q8_scale_word(params.kv_rows * params.kv_heads, HEAD_DIM, i / head_units(), dim_of(i)); }
fn key_unit(i: u32) -> vec4u {
  if (!Q8_KV) { return k[i]; }
  let s = scale_word(i);
  return vec4u(k[i / 2][2 * (i % 2)], k[i / 2][2 * (i % 2) + 1], k[s / 4][s % 4], dim_of(i));
}
fn value_unit(i: u32) -> vec4u {
  if (!Q8_KV) { return v[i]; }
  let s = scale_word(i);
  return vec4u(v[i / 2][2 * (i % 2)], v[i / 2][2 * (i % 2) + 1], v[s / 4][s % 4], dim_of(i));
}
fn load_key(start: u32) -> Units {
  var u = Units();
  u.a = key_unit(start);
  if (lane_units() > 1) { u.b = key_unit(start + KEY_LANES); }
  if (lane_units() > 2) { u.c = key_unit(start + 2 * KEY_LANES); }
  if (lane_units() > 3) { u.d = key_unit(start + 3 * KEY_LANES); }
  return u;
}
fn load_value(start: u32) -> Units {
  var u = Units();
  u.a = value_unit(start);
  if (lane_units() > 1) { u.b = value_unit(start + KEY_LANES); }
  if (lane_units() > 2) { u.c = value_unit(start + 2 * KEY_LANES); }
  if (lane_units() > 3) { u.d = value_unit(start + 3 * KEY_LANES); }
  return u;
}
fn load_newest(start: u32) -> Units {
  var u = Units();
  u.a = newest[start];
  if (lane_units() > 1) { u.b = newest[start + KEY_LANES]; }
  if (lane_units() > 2) { u.c = newest[start + 2 * KEY_LANES]; }
  if (lane_units() > 3) { u.d = newest[start + 3 * KEY_LANES]; }
  return u;
}

// Keys first, first + stride, … of a run's first n.
fn load(run: KvRun, first: u32, stride: u32, n: u32, kv_head: u32, part: u32) -> Loaded {
  var loaded = Loaded();
  let a = key_start(run, first, n, kv_head, part);
  let b = key_start(run, first + stride, n, kv_head, part);
  let c = key_start(run, first + 2 * stride, n, kv_head, part);
  let d = key_start(run, first + 3 * stride, n, kv_head, part);
  loaded.k.a = load_key(a);
  if (KEYS > 1) { loaded.k.b = load_key(b); }
  if (KEYS > 2) { loaded.k.c = load_key(c); }
  if (KEYS > 3) { loaded.k.d = load_key(d); }
  loaded.v.a = load_value(a);
  if (KEYS > 1) { loaded.v.b = load_value(b); }
  if (KEYS > 2) { loaded.v.c = load_value(c); }
  if (KEYS > 3) { loaded.v.d = load_value(d); }
  return loaded;
}

// What was loaded, but with the newest key and value from where they are staged, if they are `newest_at` strides behind the first,
// and zeros in place of values that are beyond the first `live`.
fn as_seen(l: Loaded, newest_at: u32, live: u32, part: u32) -> Loaded {
  var seen = l;
  if (live < KEYS) {
    if (live == 0) { seen.v.a = Units(); }
    if ((KEYS > 1) & (live < 2)) { seen.v.b = Units(); }
    if ((KEYS > 2) & (live < 3)) { seen.v.c = Units(); }
    if (KEYS > 3) { seen.v.d = Units(); }
  }
  if (newest_at >= KEYS) { return seen; }
  let key = load_newest(part);
  let value = load_newest(head_units() + part);
  if (newest_at == 0) { seen.k.a = key; seen.v.a = value; }
  if ((KEYS > 1) & (newest_at == 1)) { seen.k.b = key; seen.v.b = value; }
  if ((KEYS > 2) & (newest_at == 2)) { seen.k.c = key; seen.v.c = value; }
  if ((KEYS > 3) & (newest_at == 3)) { seen.k.d = key; seen.v.d = value; }
  return seen;
}

// What a group of lanes knows of the keys that it has seen, head by head.
struct Seen {
  peak: vec4f,   // the largest score
  total: vec4f,  // of exp(score - peak)
  sum: Parts     // of the values, so weighted
}

// A lane's share of a key's products with the queries.
fn products(q: Parts, units: Units) -> vec4f {
  let key = part_of(units);
  var s = vec4f(part_dot(q.a, key), 0, 0, 0);
  if (TEAM > 1) { s.y = part_dot(q.b, key); }
  if (TEAM > 2) { s.z = part_dot(q.c, key); }
  if (TEAM > 3) { s.w = part_dot(q.d, key); }
  return s;
}

// A head's sum, which fades, and up to four values.
fn add_values(sum: Part, fade: f32, v: Parts, w: vec4f) -> Part {
  var s = add_weighted(weighted(sum, fade), v.a, w.x);
  if (KEYS > 1) { s = add_weighted(s, v.b, w.y); }
  if (KEYS > 2) { s = add_weighted(s, v.c, w.z); }
  if (KEYS > 3) { s = add_weighted(s, v.d, w.w); }
  return s;
}

// Adds the first `live` of the loaded keys. Subgroup-uniform control flow only.
fn look(before: Seen, q: Parts, loaded: Loaded, live: u32) -> Seen {
  // The scores of each key, its heads side by side.
  var a = products(q, loaded.k.a);
  var b = vec4f();
  var c = vec4f();
  var d = vec4f();
  if (KEYS > 1) { b = products(q, loaded.k.b); }
  if (KEYS > 2) { c = products(q, loaded.k.c); }
  if (KEYS > 3) { d = products(q, loaded.k.d); }
  for (var mask = 1u; mask < KEY_LANES; mask *= 2) {
    a += subgroup_xor_vec4f(a, mask);
    if (KEYS > 1) { b += subgroup_xor_vec4f(b, mask); }
    if (KEYS > 2) { c += subgroup_xor_vec4f(c, mask); }
    if (KEYS > 3) { d += subgroup_xor_vec4f(d, mask); }
  }
  a = select(vec4f(LOWEST), softcapped(a), live > 0);
  b = select(vec4f(LOWEST), softcapped(b), (KEYS > 1) & (live > 1));
  c = select(vec4f(LOWEST), softcapped(c), (KEYS > 2) & (live > 2));
  d = select(vec4f(LOWEST), softcapped(d), (KEYS > 3) & (live > 3));

  var seen = before;
  seen.peak = max(max(before.peak, max(a, b)), max(c, d));
  let fade = exp(before.peak - seen.peak);
  a = select(vec4f(), exp(a - seen.peak), live > 0);
  b = select(vec4f(), exp(b - seen.peak), (KEYS > 1) & (live > 1));
  c = select(vec4f(), exp(c - seen.peak), (KEYS > 2) & (live > 2));
  d = select(vec4f(), exp(d - seen.peak), (KEYS > 3) & (live > 3));
  seen.total = before.total * fade + a + b + c + d;
  let v = Parts(part_of(loaded.v.a), part_of(loaded.v.b), part_of(loaded.v.c), part_of(loaded.v.d));
  seen.sum.a = add_values(before.sum.a, fade.x, v, vec4f(a.x, b.x, c.x, d.x));
  if (TEAM > 1) { seen.sum.b = add_values(before.sum.b, fade.y, v, vec4f(a.y, b.y, c.y, d.y)); }
  if (TEAM > 2) { seen.sum.c = add_values(before.sum.c, fade.z, v, vec4f(a.z, b.z, c.z, d.z)); }
  if (TEAM > 3) { seen.sum.d = add_values(before.sum.d, fade.w, v, vec4f(a.w, b.w, c.w, d.w)); }
  return seen;
}

// The sum of two lanes' parts, of which this lane's has a weight.
fn met(x: Part, w: f32, mask: u32) -> Part {
  var sum = weighted(x, w);
  sum.a += subgroup_xor_vec4f(sum.a, mask);
  if (FOURS > 1) { sum.b += subgroup_xor_vec4f(sum.b, mask); }
  if (FOURS > 2) { sum.c += subgroup_xor_vec4f(sum.c, mask); }
  if (FOURS > 3) { sum.d += subgroup_xor_vec4f(sum.d, mask); }
  return sum;
}

// What the groups of a subgroup know together. Subgroup-uniform control flow only.
fn meet(before: Seen, at: Lane) -> Seen {
  var seen = before;
  for (var mask = KEY_LANES; mask < min(known_subgroup_size(at), WORKGROUP_SIZE); mask *= 2) {
    let peak = max(seen.peak, subgroup_xor_vec4f(seen.peak, mask));
    let w = exp(seen.peak - peak);
    seen.peak = peak;
    seen.total *= w;
    seen.total += subgroup_xor_vec4f(seen.total, mask);
    seen.sum.a = met(seen.sum.a, w.x, mask);
    if (TEAM > 1) { seen.sum.b = met(seen.sum.b, w.y, mask); }
    if (TEAM > 2) { seen.sum.c = met(seen.sum.c, w.z, mask); }
    if (TEAM > 3) { seen.sum.d = met(seen.sum.d, w.w, mask); }
  }
  return seen;
}

// Puts down what a subgroup knows of the team's head h.
fn show(h: u32, sum: Part, peak: f32, total: f32, at: Lane) {
  let to = subgroup(at) * TEAM + h;
  let part = sublane(at);
  if (part == 0) { ends[to] = vec2f(peak, total); }
  if (part >= KEY_LANES) { return; }
  sums[to * HEAD_FOURS + four_of(part, 0)] = sum.a;
  if (FOURS > 1) { sums[to * HEAD_FOURS + four_of(part, 1)] = sum.b; }
  if (FOURS > 2) { sums[to * HEAD_FOURS + four_of(part, 2)] = sum.c; }
  if (FOURS > 3) { sums[to * HEAD_FOURS + four_of(part, 3)] = sum.d; }
}

fn lanes(s: Share, at: Lane) {
  // The keys' groups of lanes take them in turn.
  let groups = WORKGROUP_SIZE / KEY_LANES;
  let held = groups * KEYS;  // keys a round
  let own = subgroup(at) * (known_subgroup_size(at) / KEY_LANES) + sublane(at) / KEY_LANES;
  let part = sublane(at) % KEY_LANES;
  // The first round's loads: rows that hold no key yet are read, too.
  var loaded = Loaded();
  if (!WINDOWED) { loaded = load(run_from(s.row, 0), s.split * held + own, groups, params.capacity, s.kv_head, part); }

  let keys = keys_of(s.row, slots[s.row].position, slots[s.row].stopped);
  let rounds = rounds_of(keys, held, s.split);
  if (SPLIT & (s.split >= rounds.used)) {
    leave_nothing(s, at);
    return;
  }
  let run = run_from(s.row, keys.first);
  if (WINDOWED & (rounds.count > 0)) { loaded = load(run, s.split * held + own, groups, keys.count, s.kv_head, part); }

  let last = max(keys.count, 1) - 1;
  let has_newest = FROM_QKV & rounds.has_newest;
  stage(s, keys, has_newest, at);
  workgroupBarrier();
  if (has_newest & (s.team == 0)) {
    let to = (keys.newest_row * params.kv_heads + s.kv_head) * head_units();
    for (var u = at.lane; u < head_units(); u += WORKGROUP_SIZE) {
      k[to + u] = newest[u];
      v[to + u] = newest[head_units() + u];
    }
  }
  var q = Parts();
  q.a = own_query(0, part);
  if (TEAM > 1) { q.b = own_query(1, part); }
  if (TEAM > 2) { q.c = own_query(2, part); }
  if (TEAM > 3) { q.d = own_query(3, part); }

  var seen = Seen();
  seen.peak = vec4f(LOWEST);
  for (var round = 0u; round < rounds.count; round++) {
    let next = (s.split + round * rounds.used) * held + own;
    let live = (max(keys.count, next) - next + groups - 1) / groups;
    let newest_at = select(KEYS, (last - next) / groups, has_newest & (last >= next) & ((last - next) % groups == 0));
    let present = as_seen(loaded, newest_at, live, part);
    if (round + 1 < rounds.count) { loaded = load(run, next + rounds.used * held, groups, keys.count, s.kv_head, part); }
    seen = look(seen, q, present, live);
  }

  // The subgroups meet.
  seen = meet(seen, at);
  show(0, seen.sum.a, seen.peak.x, seen.total.x, at);
  if (TEAM > 1) { show(1, seen.sum.b, seen.peak.y, seen.total.y, at); }
  if (TEAM > 2) { show(2, seen.sum.c, seen.peak.z, seen.total.z, at); }
  if (TEAM > 3) { show(3, seen.sum.d, seen.peak.w, seen.total.w, at); }
  workgroupBarrier();
  for (var i = at.lane; i < s.heads * HEAD_FOURS; i += WORKGROUP_SIZE) {
    let h = i / HEAD_FOURS;
    var peak = LOWEST;
    for (var g = 0u; g < known_subgroups(at); g++) { peak = max(peak, ends[g * TEAM + h].x); }
    var total = 0.0;
    var sum = vec4f();
    for (var g = 0u; g < known_subgroups(at); g++) {
      let end = ends[g * TEAM + h];
      let weight = exp(end.x - peak);
      total += weight * end.y;
      sum += weight * sums[g * TEAM * HEAD_FOURS + i];
    }
    leave(s, h, i % HEAD_FOURS, sum, peak, total);
  }
}
