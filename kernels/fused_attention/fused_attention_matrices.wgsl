// fused_attention_matrices.wgsl: fused_attention by products of subgroup matrices, in workgroups of eight subgroups of 32 lanes, or sixteen.
//
// TILE_KEYS keys and values at a time come into the tile as the cache has them. Of a product's sixteen rows eight have the queries, each as two
// f16, what the first lacks and the second adds, times 2048: so scores are as exact as in f32. Weights are rounded to f16, as parts are.
// Needs: #import fused_attention_shares; const LEAVES_EARLY, and const or override MATRIX, FROM_QKV, WINDOWED, TEAM, KEYS, WORKGROUP_SIZE; bindings rope, k, v;
// var<workgroup> tile, of TILE_UNITS; fn run_from, keys_of, cache_unit and key_start, where keys lie; row_elements, await_qkv and qkv_fours, two
// fours of q, k and v; leave, what becomes of four of a head's results, and leave_nothing, of none. fused_attention.wgsl says of each what it is.

#import matrix

const TILE_KEYS = 16 * KEYS;
const UNITS = HEAD_DIM / 8;
const PITCH = UNITS + 1;
const WEIGHTS_PITCH = TILE_KEYS / 8 + 1;
const SCORES_PITCH = TILE_KEYS / 4 + 1;
const SUMS_PITCH = HEAD_FOURS + 1;
const SCORE_PARTS = 128 / TILE_KEYS;  // of a score, that eight subgroups reckon: of every so many sixteen dimensions one

// Where what lies in the tile begins. Weights have four rows and queries eight; what is read as more is what lies behind them, and of no account.
// Keys and values have a row more than they are, for what is put down in vain.
const WEIGHTS_AT = 0u;
const QUERIES_AT = WEIGHTS_AT + 4 * WEIGHTS_PITCH;
const VALUES_AT = QUERIES_AT + 8 * PITCH;
const KEYS_AT = VALUES_AT + (TILE_KEYS + 1) * PITCH;
const SCORES_AT = KEYS_AT + (TILE_KEYS + 1) * PITCH;  // of each part; and after them the sums
const TILE_UNITS = SCORES_AT + 16 * max(SCORE_PARTS * SCORES_PITCH, SUMS_PITCH);
var<workgroup> states: array<vec3f, select(1, 4, MATRIX)>;  // {peak, total, fade} of each head

// Two f16 that are a number together: its first eleven bits, and 2048 times the rest.
struct Halved { high: vec2u, low: vec2u }
fn halved(e: vec4f) -> Halved {
  let high = bitcast<vec4f>(bitcast<vec4u>(e) & vec4u(0xffffe000));
  return Halved(rounded_halves(high), rounded_halves(2048 * (e - high)));
}

// Units of a tile of keys and of values from key `first` on, the lane's own.
struct TileUnits { k: Units, v: Units }

fn load_tile(run: KvRun, first: u32, n: u32, kv_head: u32, at: Lane) -> TileUnits {
  var loaded = TileUnits();
  let a = key_start(run, first + at.lane / UNITS, n, kv_head, at.lane % UNITS);
  let b = key_start(run, first + (at.lane + WORKGROUP_SIZE) / UNITS, n, kv_head, (at.lane + WORKGROUP_SIZE) % UNITS);
  let c = key_start(run, first + (at.lane + 2 * WORKGROUP_SIZE) / UNITS, n, kv_head, (at.lane + 2 * WORKGROUP_SIZE) % UNITS);
  let d = key_start(run, first + (at.lane + 3 * WORKGROUP_SIZE) / UNITS, n, kv_head, (at.lane + 3 * WORKGROUP_SIZE) % UNITS);
  loaded.k.a = k[a];
  if (TILE_KEYS * UNITS > WORKGROUP_SIZE) { loaded.k.b = k[b]; }
  if (TILE_KEYS * UNITS > 2 * WORKGROUP_SIZE) { loaded.k.c = k[c]; }
  if (TILE_KEYS * UNITS > 3 * WORKGROUP_SIZE) { loaded.k.d = k[d]; }
  loaded.v.a = v[a];
  if (TILE_KEYS * UNITS > WORKGROUP_SIZE) { loaded.v.b = v[b]; }
  if (TILE_KEYS * UNITS > 2 * WORKGROUP_SIZE) { loaded.v.c = v[c]; }
  if (TILE_KEYS * UNITS > 3 * WORKGROUP_SIZE) { loaded.v.d = v[d]; }
  return loaded;
}

// Puts unit i of the tile down, but in vain where the newest key belongs, which comes from elsewhere; of values that are beyond the first `live` zeros.
fn put_unit(i: u32, key: vec4u, value: vec4u, newest_at: u32, live: u32) {
  let row = i / UNITS;
  if (i >= TILE_KEYS * UNITS) { return; }
  let at = select(row, TILE_KEYS, row == newest_at) * PITCH + i % UNITS;
  tile[KEYS_AT + at] = key;
  tile[VALUES_AT + at] = select(vec4u(), value, row < live);
}
fn put_tile(loaded: TileUnits, newest_at: u32, live: u32, at: Lane) {
  put_unit(at.lane, loaded.k.a, loaded.v.a, newest_at, live);
  if (TILE_KEYS * UNITS > WORKGROUP_SIZE) { put_unit(at.lane + WORKGROUP_SIZE, loaded.k.b, loaded.v.b, newest_at, live); }
  if (TILE_KEYS * UNITS > 2 * WORKGROUP_SIZE) { put_unit(at.lane + 2 * WORKGROUP_SIZE, loaded.k.c, loaded.v.c, newest_at, live); }
  if (TILE_KEYS * UNITS > 3 * WORKGROUP_SIZE) { put_unit(at.lane + 3 * WORKGROUP_SIZE, loaded.k.d, loaded.v.d, newest_at, live); }
}

// A round's tile, with the newest key or value if it is the last one's and the lane brings a unit of it.
fn put_tile_of(s: Share, keys: Keys, rounds: Rounds, round: u32, loaded: TileUnits, brings_newest: bool, which: u32, unit: u32, newest: vec4u, at: Lane) {
  let live = min(keys.count - (s.split + round * rounds.used) * TILE_KEYS, TILE_KEYS);
  let is_last = round + 1 == rounds.count;
  put_tile(loaded, select(TILE_KEYS, live - 1, is_last & rounds.has_newest), live, at);
  if (is_last & brings_newest) { tile[select(VALUES_AT, KEYS_AT, which == TEAM) + (live - 1) * PITCH + unit] = newest; }
}

// A score of four keys, of its parts.
fn four_scores(h: u32, four: u32) -> vec4f {
  var s = vec4f();
  for (var p = 0u; p < SCORE_PARTS; p++) {
    let at = SCORES_AT + (16 * p + h) * SCORES_PITCH + four;
    s += bitcast<vec4f>(tile[at]) + bitcast<vec4f>(tile[at + 4 * SCORES_PITCH]) / 2048;
  }
  return softcapped(s);
}

// The largest, or the sum, of what lanes that share a head have.
fn head_max(e: f32) -> f32 {
  var most = max(e, matrix_xor_f32(e, 1));
  most = max(most, matrix_xor_f32(most, 2));
  most = max(most, matrix_xor_f32(most, 4));
  if (TILE_KEYS > 32) { most = max(most, matrix_xor_f32(most, 8)); }
  return most;
}
fn head_sum(e: f32) -> f32 {
  var sum = e + matrix_xor_f32(e, 1);
  sum += matrix_xor_f32(sum, 2);
  sum += matrix_xor_f32(sum, 4);
  if (TILE_KEYS > 32) { sum += matrix_xor_f32(sum, 8); }
  return sum;
}

fn matrices(s: Share, position: u32, stopped: u32, at: Lane) {
  let own = matrix_subgroup(at);
  // What waits for nothing, under way at once: where the row stands, the first tile, and eight elements of a query, or of the newest key or value.
  var loaded = TileUnits();
  if (!WINDOWED) { loaded = load_tile(run_from(s.row, 0), s.split * TILE_KEYS, params.capacity, s.kv_head, at); }
  let jobs = select(TEAM, TEAM + 2, FROM_QKV) * UNITS;
  let job = min(at.lane, jobs - 1);
  let which = job / UNITS;  // a head of the team, or after them the key and the value
  let j = job % UNITS;
  let of_query = which < TEAM;
  let turns = FROM_QKV & (which < TEAM + 1) & (8 * j < params.rotary_dim);
  let by_halves = turns & (params.interleaved == 0);  // four elements that turn with four others, half of the rotated ones apart
  let head = select(params.heads + s.kv_head + select(0, params.kv_heads, which > TEAM), s.in_row + min(which, s.heads - 1), of_query);
  let half_fours = params.rotary_dim / 8;
  let first = (s.row * row_elements() + head * HEAD_DIM) / 4 + select(2 * j, j, by_halves);
  // And the angles, which may have to wait for the position.
  let angle = min(position, params.max_seq - 1) * half_fours + min(j, max(half_fours, 1) - 1);
  var cosines = vec4f();
  var sines = vec4f();
  if (FROM_QKV) {
    cosines = rope[angle];
    sines = rope[params.max_seq * half_fours + angle];
  }
  await_qkv(at);

  let keys = keys_of(s.row, position, stopped);
  let rounds = rounds_of(keys, TILE_KEYS, s.split);
  if (LEAVES_EARLY & SPLIT & (s.split >= rounds.used)) {
    leave_nothing(s, at);
    return;
  }
  let run = run_from(s.row, keys.first);
  if (WINDOWED & (rounds.count > 0)) { loaded = load_tile(run, s.split * TILE_KEYS, keys.count, s.kv_head, at); }

  // Rotated, and as f16, by the subgroups that have any. Of halves a lane has two times half a unit, and the lane beside it the others.
  var unit = j;
  var high = vec4u();
  if (!matrix_beyond(own, (jobs + 31) / 32)) {
    let fours = qkv_fours(first, first + select(1, half_fours, by_halves));
    var x = fours.a;
    var y = fours.b;
    if (FROM_QKV) {
      let pairs = turns & !by_halves;
      let a = select(x, vec4f(x.xz, y.xz), pairs);
      let b = select(y, vec4f(x.yw, y.yw), pairs);
      let c = select(a, a * cosines - b * sines, turns);
      let d = select(b, b * cosines + a * sines, turns);
      x = select(c, vec4f(c.x, d.x, c.y, d.y), pairs);
      y = select(d, vec4f(c.z, d.z, c.w, d.w), pairs);
    }
    let a = halved(params.scale * x);
    let b = halved(params.scale * y);
    let even = j % 2 == 0;
    high = select(vec4u(rounded_halves(x), rounded_halves(y)), vec4u(a.high, b.high), of_query);
    var low = vec4u(a.low, b.low);
    let given = select(vec4u(high.xy, low.xy), vec4u(high.zw, low.zw), even);
    let taken = matrix_xor_vec4u(given, 1);
    if (by_halves) {
      unit = j / 2 + select(half_fours / 2, 0, even);
      high = select(vec4u(taken.xy, high.zw), vec4u(high.xy, taken.xy), even);
      low = select(vec4u(taken.zw, low.zw), vec4u(low.xy, taken.zw), even);
    }
    if ((at.lane == job) & of_query) {
      tile[QUERIES_AT + which * PITCH + unit] = high;
      tile[QUERIES_AT + (4 + which) * PITCH + unit] = low;
    }
  }
  let brings_newest = (at.lane == job) & !of_query & rounds.has_newest;

  // Lanes that share a head in the softmax have four keys each; and a lane has four of a head's sums.
  let sharing = TILE_KEYS / 4;
  let score_head = (32 / sharing * own + matrix_lane(at) / sharing) % 4;
  let four = matrix_lane(at) % sharing;
  let own_head = at.lane / HEAD_FOURS;
  let own_four = at.lane % HEAD_FOURS;
  var peak = LOWEST;
  var total = 0.0;
  var sum = vec4f();
  if (rounds.count > 0) { put_tile_of(s, keys, rounds, 0, loaded, brings_newest, which, unit, high, at); }
  for (var round = 0u; round < rounds.count; round++) {
    let tile_first = (s.split + round * rounds.used) * TILE_KEYS;
    let live = min(keys.count - tile_first, TILE_KEYS);
    // Under way while this tile is multiplied, and put down in the same turn, without a branch between: else they are waited for here. After the
    // last tile a key that all lanes have in common.
    let next = load_tile(run, tile_first + rounds.used * TILE_KEYS, keys.count, s.kv_head, at);
    workgroupBarrier();
    let tile_key = own % (TILE_KEYS / 16) * 16;
    let part = own / (TILE_KEYS / 16);
    if (part < SCORE_PARTS) {
      var scores = Sums();
      for (var i = 0u; i < UNITS; i += 2 * SCORE_PARTS) {
        let d = i + 2 * part;
        if ((UNITS % (2 * SCORE_PARTS) != 0) & (d >= UNITS)) { continue; }
        scores = multiply_add(load_left(QUERIES_AT + d, PITCH), load_right_columns(KEYS_AT + tile_key * PITCH + d, PITCH), scores);
      }
      store_sums(SCORES_AT + 16 * part * SCORES_PITCH + tile_key / 4, SCORES_PITCH, scores);
    }
    workgroupBarrier();

    if (!matrix_beyond(own, (sharing + 7) / 8)) {
      let seen = vec4u(0, 1, 2, 3) + 4 * four < vec4u(live);
      let of_keys = select(vec4f(LOWEST), four_scores(score_head, four), seen);
      let highest = max(peak, head_max(max(max(of_keys.x, of_keys.y), max(of_keys.z, of_keys.w))));
      let weights = select(vec4f(), exp(of_keys - highest), seen);
      let fade = exp(peak - highest);
      total = total * fade + head_sum(weights.x + weights.y + weights.z + weights.w);
      peak = highest;
      let packed = halves(weights);
      let beside = matrix_xor_vec4u(vec4u(packed, 0, 0), 1);
      if ((own < sharing / 8) & (four % 2 == 0)) {
        tile[WEIGHTS_AT + score_head * WEIGHTS_PITCH + four / 2] = vec4u(packed, beside.xy);
        if (four == 0) { states[score_head] = vec3f(peak, total, fade); }
      }
    }
    workgroupBarrier();
    for (var d = 2 * own; d < UNITS; d += WORKGROUP_SIZE / 16) {
      var values = Sums();
      for (var key = 0u; key < TILE_KEYS; key += 16) {
        values = multiply_add(load_left(WEIGHTS_AT + key / 8, WEIGHTS_PITCH), load_right_rows(VALUES_AT + key * PITCH + d, PITCH), values);
      }
      store_sums(SCORES_AT + 2 * d, SUMS_PITCH, values);
    }
    workgroupBarrier();
    if (own_head < s.heads) {
      let i = SCORES_AT + own_head * SUMS_PITCH + own_four;
      sum = sum * states[own_head].z + bitcast<vec4f>(tile[i]);
    }
    if (round + 1 == rounds.count) { break; }
    put_tile_of(s, keys, rounds, round + 1, next, brings_newest, which, unit, high, at);
  }
  if (brings_newest & (s.team == 0)) {
    let to = cache_unit(keys.newest_row, s.kv_head, unit);
    if (which == TEAM) { k[to] = high; } else { v[to] = high; }
  }
  let state = select(vec3f(LOWEST, 0, 0), states[min(own_head, 3)], rounds.count > 0);
  if (!matrix_beyond(own, (TEAM * HEAD_FOURS + 31) / 32)) { leave(s, own_head, own_four, sum, state.x, state.y); }
}
