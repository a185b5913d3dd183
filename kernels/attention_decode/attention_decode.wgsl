// attention_decode.wgsl: softmax(scale * q k^T) v of one query per row over the keys its sequence has so far.
#import lane
#import slot
#import kv

override WORKGROUP_SIZE: u32 = 64;
override F16_KV: bool = false;
override USE_SUBGROUPS: bool = true;
override MULTIHEAD: bool = false;
override CHUNKED: bool = false;
override SPLIT: bool = false;
override COMBINE: bool = false;

struct Params {
  rows: u32,
  heads: u32,
  kv_heads: u32,
  head_dim: u32,
  kv_len: u32,
  kv_len_source: u32,
  prefill: u32,
  slot: u32,
  scale: f32,
  attn_softcap: f32,
  sliding_window: u32,
  kv_layout: u32,
  kv_rows: u32,
  capacity: u32,
  page_size: u32,
  splits: u32,
  split_keys: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;            // [rows, heads, head_dim]
@group(0) @binding(2) var<storage, read> k: array<vec4u>;          // [kv_rows, kv_heads, head_dim] f32 or f16
@group(0) @binding(3) var<storage, read> v: array<vec4u>;          // [kv_rows, kv_heads, head_dim] f32 or f16
@group(0) @binding(4) var<storage, read> slots: array<Slot>;       // [slots], read if kv_len_source == 1
@group(0) @binding(5) var<storage, read> block_table: array<u32>;  // [slots, capacity / page_size], read if paged
@group(0) @binding(6) var<storage, read> partials: array<f32>;     // [rows, heads, splits, head_dim + 2], read by COMBINE
@group(0) @binding(7) var<storage, read_write> out: array<f32>;    // [rows, heads, head_dim]; SPLIT: partials

override HEADS: u32 = select(1u, 4u, MULTIHEAD);  // of a workgroup, at most
override SCORES: u32 = select(2048u, 1024u, CHUNKED);
override CHUNK: u32 = SCORES / HEADS;
override KEY_LANES: u32 = select(1u, 4u, USE_SUBGROUPS);  // that share a key
const LOWEST = -1e38;  // below any score, and finite when one is taken from another

var<workgroup> query: array<vec4f, HEADS * 64>;
var<workgroup> scores: array<f32, SCORES>;
var<workgroup> peaks: array<vec4f, WORKGROUP_SIZE>;

// Words of a head in the cache, and units of four of them.
fn words() -> u32 { return select(params.head_dim, (params.head_dim + 1) / 2, F16_KV); }
fn units() -> u32 { return (words() + 3) / 4; }
fn aligned() -> bool { return params.head_dim % select(4u, 8u, F16_KV) == 0; }

// Word i of a head without what lies beyond the head.
fn inside(i: u32, word: u32) -> u32 {
  if (!F16_KV) { return select(0, word, i < params.head_dim); }
  return select(select(0, word & 0xffff, 2 * i < params.head_dim), word, 2 * i + 1 < params.head_dim);
}
fn k_word(head: u32, i: u32) -> u32 {
  let word = head * words() + min(i, words() - 1);
  return inside(i, k[word / 4][word % 4]);
}
fn v_word(head: u32, i: u32) -> u32 {
  let word = head * words() + min(i, words() - 1);
  return inside(i, v[word / 4][word % 4]);
}
// Unit u of head `head`, counted over the whole cache.
fn k_unit(head: u32, u: u32) -> vec4u {
  if (aligned()) { return k[head * units() + u]; }
  return vec4u(k_word(head, 4 * u), k_word(head, 4 * u + 1), k_word(head, 4 * u + 2), k_word(head, 4 * u + 3));
}
fn v_unit(head: u32, u: u32) -> vec4u {
  if (aligned()) { return v[head * units() + u]; }
  return vec4u(v_word(head, 4 * u), v_word(head, 4 * u + 1), v_word(head, 4 * u + 2), v_word(head, 4 * u + 3));
}
fn low(unit: vec4u) -> vec4f {
  if (F16_KV) { return vec4f(unpack2x16float(unit.x), unpack2x16float(unit.y)); }
  return bitcast<vec4f>(unit);
}
fn high(unit: vec4u) -> vec4f { return vec4f(unpack2x16float(unit.z), unpack2x16float(unit.w)); }

fn cache_head(slot: u32, position: u32, kv_head: u32) -> u32 {
  var block = 0u;
  if (params.kv_layout == KV_PAGED) { block = block_table[slot * (params.capacity / params.page_size) + position / params.page_size]; }
  return min(kv_row(params.kv_layout, slot, position, params.capacity, params.page_size, block), params.kv_rows - 1) * params.kv_heads + kv_head;
}

struct Keys { slot: u32, first: u32, end: u32 }
fn keys_of(row: u32) -> Keys {
  var keys = Keys();
  var length = params.kv_len + row;
  var held = params.kv_len + params.rows - 1;
  if (params.kv_len_source != 0) {
    if (params.prefill != 0) {
      keys.slot = params.slot;
      length = slots[params.slot].position + row + 1;
      held = slots[params.slot].position + params.rows;
    } else {
      keys.slot = row;
      length = select(0, slots[row].position + 1, slots[row].stopped == 0);
      held = length;
    }
  }
  if (params.sliding_window != 0) { keys.first = max(length, params.sliding_window) - params.sliding_window; }
  keys.end = length;
  if (params.kv_layout == KV_RING) {
    keys.first = max(keys.first, max(held, params.capacity) - params.capacity);
  } else {
    keys.end = min(length, params.capacity);
  }
  keys.first = min(keys.first, keys.end);
  return keys;
}

fn softcapped(score: f32) -> f32 {
  if (params.attn_softcap == 0) { return score; }
  return params.attn_softcap * tanh(clamp(score / params.attn_softcap, -10, 10));
}

// sums over the 4 lanes of a key: lane i gets component i
fn key_sum(value: vec4f, part: u32) -> f32 {
  let two = select(value.xz, value.yw, (part & 1) != 0) + subgroup_xor_vec2f(select(value.yw, value.xz, (part & 1) != 0), 1);
  return select(two.x, two.y, (part & 2) != 0) + subgroup_xor_f32(select(two.y, two.x, (part & 2) != 0), 2);
}

fn combine(row_head: u32, at: Lane) {
  let keys = keys_of(row_head / params.heads);
  let n = keys.end - keys.first;
  let share = max((n + params.splits - 1) / params.splits, params.split_keys);
  let used = (n + share - 1) / share;
  let stride = params.head_dim + 2;
  let base = row_head * params.splits * stride;
  var peak = LOWEST;
  for (var s = 0u; s < used; s++) { peak = max(peak, partials[base + s * stride + params.head_dim]); }
  for (var d = at.lane; d < params.head_dim; d += WORKGROUP_SIZE) {
    var sum = 0.0;
    var total = 0.0;
    for (var s = 0u; s < used; s++) {
      let p = base + s * stride;
      let weight = exp(partials[p + params.head_dim] - peak);
      total += weight * partials[p + params.head_dim + 1];
      sum += weight * partials[p + d];
    }
    out[row_head * params.head_dim + d] = select(0.0, sum / total, total > 0);
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  var g = group.id.y * group.count.x + group.id.x;
  if (COMBINE) {
    if (g < params.rows * params.heads) { combine(g, at); }
    return;
  }
  let ratio = params.heads / params.kv_heads;
  let teams = (ratio + HEADS - 1) / HEADS;
  let split = g % params.splits;
  g /= params.splits;
  let team = g % teams;
  g /= teams;
  let kv_head = g % params.kv_heads;
  let row = g / params.kv_heads;
  if (row >= params.rows) { return; }
  let per_team = (ratio + teams - 1) / teams;
  let heads = min(per_team, ratio - team * per_team);
  let first_head = row * params.heads + kv_head * ratio + team * per_team;

  let keys = keys_of(row);
  var start = keys.first;
  var end = keys.end;
  if (SPLIT) {
    let n = end - start;
    let share = max((n + params.splits - 1) / params.splits, params.split_keys);
    start += split * share;
    end = min(end, start + share);
    if (start >= end) { return; }
  }

  for (var i = at.lane; i < HEADS * 64; i += WORKGROUP_SIZE) {
    var e = vec4f();
    let d = i % 64 * 4;
    if (i / 64 < heads) {
      for (var j = 0u; j < 4 && d + j < params.head_dim; j++) { e[j] = params.scale * q[(first_head + i / 64) * params.head_dim + d + j]; }
    }
    query[i] = e;
  }
  workgroupBarrier();

  let n_units = units();
  let key_slot = select(at.lane, subgroup(at) * (subgroup_size(at) / 4) + sublane(at) / 4, USE_SUBGROUPS);
  let part = select(0, sublane(at) % 4, USE_SUBGROUPS);
  let v_slots = WORKGROUP_SIZE / n_units;
  let v_slot = at.lane / n_units;
  let v_u = at.lane % n_units;

  var peak = vec4f(LOWEST);
  var total = vec4f();
  var acc: array<vec4f, 8>;
  for (; start < end; start += CHUNK) {
    let n = min(CHUNK, end - start);
    // scores
    var best = vec4f(LOWEST);
    for (var first = 0u; first < n; first += WORKGROUP_SIZE / KEY_LANES * 4) {
      let key = first + key_slot * 4;
      var head: array<u32, 4>;
      for (var j = 0u; j < 4; j++) { head[j] = cache_head(keys.slot, start + min(key + j, n - 1), kv_head); }
      var s: array<vec4f, 4>;
      for (var u = part; u < n_units; u += KEY_LANES) {
        var unit: array<vec4u, 4>;
        for (var j = 0u; j < 4; j++) { unit[j] = k_unit(head[j], u); }
        for (var h = 0u; h < HEADS; h++) {
          if (h < heads) {
            let a = query[h * 64 + select(u, 2 * u, F16_KV)];
            s[h] += vec4f(dot(low(unit[0]), a), dot(low(unit[1]), a), dot(low(unit[2]), a), dot(low(unit[3]), a));
            if (F16_KV) {
              let b = query[h * 64 + 2 * u + 1];
              s[h] += vec4f(dot(high(unit[0]), b), dot(high(unit[1]), b), dot(high(unit[2]), b), dot(high(unit[3]), b));
            }
          }
        }
      }
      for (var h = 0u; h < HEADS; h++) {
        if (h < heads) {
          if (USE_SUBGROUPS) {
            let score = softcapped(key_sum(s[h], part));
            if (key + part < n) {
              scores[(key + part) * HEADS + h] = score;
              best[h] = max(best[h], score);
            }
          } else {
            for (var j = 0u; j < 4; j++) {
              if (key + j < n) {
                let score = softcapped(s[h][j]);
                scores[(key + j) * HEADS + h] = score;
                best[h] = max(best[h], score);
              }
            }
          }
        }
      }
    }
    best = subgroup_max_vec4f(best);
    if (sublane(at) == 0) { peaks[subgroup(at)] = best; }
    workgroupBarrier();
    let before = peak;
    for (var i = 0u; i < subgroups(at); i++) { peak = max(peak, peaks[i]); }
    let decay = exp(before - peak);
    total *= decay;
    for (var i = at.lane; i < n * HEADS; i += WORKGROUP_SIZE) {
      let h = i % HEADS;
      if (h < heads) {
        let p = exp(scores[i] - peak[h]);
        scores[i] = p;
        total[h] += p;
      }
    }
    workgroupBarrier();
    for (var h = 0u; h < HEADS; h++) {
      acc[2 * h] *= decay[h];
      acc[2 * h + 1] *= decay[h];
    }
    if (v_slot < v_slots) {
      for (var first = v_slot; first < n; first += 4 * v_slots) {
        var unit: array<vec4u, 4>;
        for (var j = 0u; j < 4; j++) {
          unit[j] = v_unit(cache_head(keys.slot, start + min(first + j * v_slots, n - 1), kv_head), v_u);
        }
        for (var j = 0u; j < 4; j++) {
          let key = first + j * v_slots;
          for (var h = 0u; h < HEADS; h++) {
            if (h < heads) {
              let p = select(0, scores[min(key, n - 1) * HEADS + h], key < n);
              acc[2 * h] += p * low(unit[j]);
              if (F16_KV) { acc[2 * h + 1] += p * high(unit[j]); }
            }
          }
        }
      }
    }
    workgroupBarrier();
  }

  total = subgroup_sum_vec4f(total);
  if (sublane(at) == 0) { peaks[subgroup(at)] = total; }
  workgroupBarrier();
  total = vec4f();
  for (var i = 0u; i < subgroups(at); i++) { total += peaks[i]; }

  let dims = select(4u, 8u, F16_KV);
  for (var h = 0u; h < heads; h++) {
    if (v_slot < v_slots) {
      let to = (v_slot * n_units + v_u) * dims;
      for (var j = 0u; j < 4; j++) {
        scores[to + j] = acc[2 * h][j];
        if (F16_KV) { scores[to + 4 + j] = acc[2 * h + 1][j]; }
      }
    }
    workgroupBarrier();
    for (var d = at.lane; d < params.head_dim; d += WORKGROUP_SIZE) {
      var sum = 0.0;
      for (var i = 0u; i < v_slots; i++) { sum += scores[i * n_units * dims + d]; }
      if (SPLIT) {
        out[((first_head + h) * params.splits + split) * (params.head_dim + 2) + d] = sum;
      } else {
        out[(first_head + h) * params.head_dim + d] = select(0.0, sum / total[h], total[h] > 0);
      }
    }
    if (SPLIT && at.lane == 0) {
      let to = ((first_head + h) * params.splits + split) * (params.head_dim + 2) + params.head_dim;
      out[to] = peak[h];
      out[to + 1] = total[h];
    }
    workgroupBarrier();
  }
}
