// sample_topk.wgsl: draws a token per row by its Slot's sampler parameters, or lists a row's top k.
//
// By the uniform `phase`; a row is a slot, and rows whose slot does not run are left as they are:
//   0 summaries  a lane for every `span` logits
//   1 lists      a workgroup a row: the top_k largest logits and their ids
//   2 draw       a workgroup a row: the token
//   3 penalties  a lane for each recent token or biased id, before the others: in place on the logits
// Kept is what stands at or before a threshold (key, id) in the order of falling logit, then rising id. The
// draw is a race: of the kept, the largest probability / exponential noise of (seed, position, id) wins, in
// whatever order they are seen. The k best are listed and ranked; for many, or many ties, a radix search
// over keys, then ids, finds their threshold. That of top-p over the whole vocabulary is not searched for:
// a winner beyond it is rejected, with all that stands after it. Any vocabulary, any k; lists up to 512.
// Grid: rows * parts, folded into (x, y) beyond 65535.
// Limits: 2^31 logits, tokens of history, and words of bias; topk_lists 256 a row.
// Replaces find_topk_phase1, find_topk_phase2 and softmax_and_sample of the old sample.wgsl.

#import lane
#import reduce
#import slot
#import order

override WORKGROUP_SIZE: u32 = 256;  // power of two, at most 512

const SUMMARIES = 0;
const LISTS = 1;
const DRAW = 2;
const PENALTIES = 3;

const LIST_SIZE = 512u;  // logits that are ranked at once
const NO_ID = 0xffffffffu;

struct Params {
  phase: u32,
  span: u32,           // logits that a summary covers
  rows: u32,
  vocab_size: u32,
  top_k: u32,          // of the lists
  pad_token_id: u32,   // never drawn; NO_ID: none
  logit_softcap: f32,  // 0: none
  has_slots: u32,      // 0: every row runs
  has_mask: u32,
  capacity: u32,       // of the history; 0: there is none
  biases: u32,         // pairs a row
  parts: u32,          // workgroups a row
}

// Of `span` logits, WORKGROUP_SIZE apart: the largest key and, where the draw needs them, relative to that
// key their mass and the best in the race.
struct Summary { key: u32, mass: f32, race: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<Slot>;               // [rows]
@group(0) @binding(2) var<storage, read> history: array<u32>;              // [rows, capacity]
@group(0) @binding(3) var<storage, read> bias: array<vec2u>;               // [rows, biases]: id, f32
@group(0) @binding(4) var<storage, read> mask: array<u32>;                 // [rows, (vocab_size + 31) / 32]
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;         // [rows, vocab_size]
@group(0) @binding(6) var<storage, read_write> summaries: array<Summary>;  // [rows, summary_count()]
@group(0) @binding(7) var<storage, read_write> ids: array<u32>;            // [rows], by lists [rows, top_k]
@group(0) @binding(8) var<storage, read_write> topk_logits: array<f32>;    // by lists [rows, top_k]

var<workgroup> lanes: array<u32, WORKGROUP_SIZE>;
var<workgroup> histogram: array<atomic<u32>, WORKGROUP_SIZE>;
var<workgroup> listed: atomic<u32>;
var<workgroup> list_key: array<u32, LIST_SIZE>;
var<workgroup> list_id: array<u32, LIST_SIZE>;
var<workgroup> order: array<u32, LIST_SIZE>;   // indices into the list, best first
var<workgroup> masses: array<f32, LIST_SIZE>;   // in that order
var<workgroup> shared_u32: u32;

fn key_at(row: u32, id: u32) -> u32 {
  if (id >= params.vocab_size || id == params.pad_token_id) { return 0; }
  if (params.has_mask != 0) {
    let word = mask[row * ((params.vocab_size + 31) / 32) + id / 32];
    if (((word >> (id % 32)) & 1) == 0) { return 0; }
  }
  return key_of(logits[row * params.vocab_size + id]);
}

// The logit after the softcap, small enough that a difference of two is finite.
fn level(key: u32) -> f32 {
  return clamp(softcap(logit_of(key), params.logit_softcap), -1e38, 1e38);
}

// What makes probabilities of a row's logits, relative to that at the level `top`, and what seeds its noise.
struct Scale { top: f32, temperature: f32, noise: vec2u }

fn scale_of(row: u32, top_key: u32) -> Scale {
  let seed = slots[row].seed;
  let position = slots[row].position;
  return Scale(level(top_key), max(slots[row].temperature, 1e-20),
               vec2u(mix(seed + mix(position)), mix(position + mix(~seed))));
}

// 1 for the top. exp(-100) is 0 in f32, and no larger difference overflows.
fn weight_of(key: u32, scale: Scale) -> f32 {
  return exp(max(level(key) - scale.top, -100 * scale.temperature) / scale.temperature);
}

// A bijection of u32 whose output bits depend on all input bits (multiply and xor-shift).
fn mix(value: u32) -> u32 {
  var x = value;
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

// Exponential noise -ln(1 - u), u uniform of 32 bits. Winners have a small u, where a series keeps the bits.
fn noise(id: u32, scale: Scale) -> f32 {
  let bits = mix(mix(id + scale.noise.x) ^ scale.noise.y);
  let u = min((f32(bits) + 0.5) / 4294967296.0, 0.99999994);
  return select(-log(1 - u), u * (1 + u * (0.5 + u * (0.33333333 + u * 0.25))), u < 0.03);
}

// Top-k as a row's slot has it; 0: the whole vocabulary.
fn top_k_of(row: u32) -> u32 {
  return select(slots[row].top_k, 0, slots[row].top_k >= params.vocab_size);
}

// Without top-k all logits take part in the race, unless min-p keeps a few; top-p needs their mass.
fn draws_from_all(row: u32) -> bool {
  return params.has_slots != 0 && slots[row].temperature > 0 && top_k_of(row) == 0;
}
fn needs_mass(row: u32) -> bool { return draws_from_all(row) && slots[row].top_p < 1; }
fn needs_race(row: u32) -> bool { return draws_from_all(row) && !(slots[row].min_p > 0); }

fn summary_count() -> u32 {
  let chunk = WORKGROUP_SIZE * params.span;
  return (params.vocab_size + chunk - 1) / chunk * WORKGROUP_SIZE;
}

fn id_of(summary: u32, i: u32) -> u32 {
  let chunk = summary / WORKGROUP_SIZE;
  return (chunk * params.span + i) * WORKGROUP_SIZE + summary % WORKGROUP_SIZE;
}

fn summarise(row: u32, summary: u32) {
  var result = Summary();
  for (var i = 0u; i < params.span; i++) {
    result.key = max(result.key, key_at(row, id_of(summary, i)));
  }
  let mass = needs_mass(row);
  let racing = needs_race(row);
  if ((mass || racing) && result.key != 0) {
    let scale = scale_of(row, result.key);
    for (var i = 0u; i < params.span; i++) {
      let id = id_of(summary, i);
      let key = key_at(row, id);
      if (key == 0) { continue; }
      let weight = weight_of(key, scale);
      if (mass) { result.mass += weight; }
      if (racing) { result.race = max(result.race, weight / noise(id, scale)); }
    }
  }
  summaries[row * summary_count() + summary] = result;
}

struct Threshold { key: u32, id: u32 }
fn everything() -> Threshold { return Threshold(1, NO_ID); }  // but key 0

fn is_kept(key: u32, id: u32, keep: Threshold) -> bool {
  return key > keep.key || (key == keep.key && id <= keep.id);
}

// The mass of what is kept, from the logits or, where all is kept, from the summaries.
fn mass_of(row: u32, keep: Threshold, summarised: bool, scale: Scale, at: Lane) -> f32 {
  let count = summary_count();
  var mass = 0.0;
  for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
    let summary = summaries[row * count + s];
    if (summary.key < keep.key) { continue; }
    if (summarised) {
      mass += summary.mass * weight_of(summary.key, scale);
      continue;
    }
    for (var i = 0u; i < params.span; i++) {
      let id = id_of(s, i);
      let key = key_at(row, id);
      if (is_kept(key, id, keep)) { mass += weight_of(key, scale); }
    }
  }
  return workgroup_sum(mass, at);
}

// The threshold of a row's k best logits, or of its k best summaries, from one key down to another; everything
// if there are fewer. A radix search: first by ~key, then by id among the logits of one key.
fn search(row: u32, k: u32, in_summaries: bool, highest: u32, lowest: u32, at: Lane) -> Threshold {
  let count = summary_count();
  let span = select(params.span, 1, in_summaries);
  let bin_bits = firstLeadingBit(WORKGROUP_SIZE);
  var by_id = false;
  var first = ~highest;
  var last = ~lowest;
  var above = 0u;  // number before the range from first to last
  var found = 0u;  // key, when by_id
  while (true) {
    let shift = max(32 - countLeadingZeros(last - first), bin_bits) - bin_bits;
    atomicStore(&histogram[at.lane], 0);
    workgroupBarrier();
    let reach = select(~last, found, by_id);
    for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
      let best = summaries[row * count + s].key;
      if (best < reach) { continue; }
      for (var i = 0u; i < span; i++) {
        let id = id_of(s, i);
        var key = best;
        if (!in_summaries) { key = key_at(row, id); }
        let value = select(~key, id, by_id);
        if (value >= first && value <= last && (!by_id || key == found)) {
          atomicAdd(&histogram[(value - first) >> shift], 1);
        }
      }
    }
    workgroupBarrier();
    lanes[at.lane] = atomicLoad(&histogram[at.lane]);
    workgroupBarrier();
    var reached = above;
    for (var i = 0u; i <= at.lane; i++) { reached += lanes[i]; }
    // The first bin with which k are reached, and whether just k are.
    let claim = (WORKGROUP_SIZE - at.lane) * 2 + u32(reached == k);
    let pick = workgroup_largest(select(0, claim, reached >= k), at);
    if (pick == 0) { return everything(); }
    let bin = WORKGROUP_SIZE - pick / 2;
    for (var i = 0u; i < bin; i++) { above += lanes[i]; }
    first += bin << shift;
    last = first + min(last - first, (1u << shift) - 1);
    if (by_id && (shift == 0 || pick % 2 == 1)) { return Threshold(found, last); }
    if (pick % 2 == 1 || (shift == 0 && in_summaries)) { return Threshold(~last, NO_ID); }
    if (shift == 0) {
      by_id = true;
      found = ~first;
      first = 0;
      last = params.vocab_size - 1;
    }
  }
  return everything();
}

// Lists what is kept, in no order; returns its number, of which LIST_SIZE are listed.
fn list(row: u32, keep: Threshold, at: Lane) -> u32 {
  if (at.lane == 0) { atomicStore(&listed, 0); }
  workgroupBarrier();
  let count = summary_count();
  for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
    if (summaries[row * count + s].key < keep.key) { continue; }
    for (var i = 0u; i < params.span; i++) {
      let id = id_of(s, i);
      let key = key_at(row, id);
      if (!is_kept(key, id, keep)) { continue; }
      let place = atomicAdd(&listed, 1);
      if (place < LIST_SIZE) {
        list_key[place] = key;
        list_id[place] = id;
      }
    }
  }
  workgroupBarrier();
  if (at.lane == 0) { shared_u32 = atomicLoad(&listed); }
  return workgroupUniformLoad(&shared_u32);
}

struct Best { listed: u32, keep: Threshold }

// A row's k best logits: orders a list of at least those, best first, and returns its length; for k beyond
// LIST_SIZE `listed` is beyond it too, and `keep` is their threshold. `best` is the largest key of this
// lane's summaries, `top_key` of all.
fn find_best(row: u32, k: u32, best: u32, top_key: u32, at: Lane) -> Best {
  // First by a bound that k logits reach, and few more: the k-th best of lanes, or of summaries.
  let few = k <= WORKGROUP_SIZE / 4 * 3;
  var keep = everything();
  if (few) {
    lanes[at.lane] = best;
    workgroupBarrier();
    var rank = 0u;
    for (var i = 0u; i < WORKGROUP_SIZE; i++) {
      rank += u32(lanes[i] > best || (lanes[i] == best && i < at.lane));
    }
    if (rank == k - 1) { shared_u32 = max(best, 1); }
    keep.key = workgroupUniformLoad(&shared_u32);
  }
  var n = LIST_SIZE + 1;
  for (var exact = false; ; exact = true) {
    if (exact || !few) { keep = search(row, k, !exact, top_key, keep.key, at); }
    if (k <= LIST_SIZE) { n = list(row, keep, at); }
    if (exact || n <= LIST_SIZE) { break; }
  }

  for (var i = at.lane; i < min(n, LIST_SIZE); i += WORKGROUP_SIZE) {
    let key = list_key[i];
    let id = list_id[i];
    var rank = 0u;
    for (var j = 0u; j < n; j++) {
      rank += u32(list_key[j] > key || (list_key[j] == key && list_id[j] < id));
    }
    order[rank] = i;
  }
  workgroupBarrier();
  return Best(n, keep);
}

// The winner of the race among what the threshold and min-p keep; at temperature 0 the best logit. Where all
// is kept, `summarised`, each lane looks at one summary only.
fn winner(row: u32, keep: Threshold, summarised: bool, scale: Scale, at: Lane) -> u32 {
  let count = summary_count();
  let greedy = slots[row].temperature <= 0;
  var lowest = -3.4e38;  // level that min-p keeps
  if (slots[row].min_p > 0) {
    lowest = scale.top + scale.temperature * log(min(slots[row].min_p, 1));
  }
  var s = at.lane;
  let step = select(WORKGROUP_SIZE, count, summarised);
  if (summarised) {
    var best = 0.0;
    s = count;
    for (var i = at.lane; i < count; i += WORKGROUP_SIZE) {
      let summary = summaries[row * count + i];
      let race = summary.race * weight_of(summary.key, scale);
      if (race > best) {
        best = race;
        s = i;
      }
    }
  }

  var won = vec2u(0);  // rank, id
  for (; s < count; s += step) {
    let best = summaries[row * count + s].key;
    if (best < keep.key || level(best) < lowest) { continue; }
    for (var i = 0u; i < params.span; i++) {
      let id = id_of(s, i);
      let key = key_at(row, id);
      if (!is_kept(key, id, keep) || level(key) < lowest) { continue; }
      var rank = key;
      // The bits of numbers that are not negative are in their order.
      if (!greedy) { rank = bitcast<u32>(weight_of(key, scale) / noise(id, scale)); }
      if (rank > won.x) { won = vec2u(rank, id); }  // a lane's ids grow: of equals the lowest stays
    }
  }
  let rank = workgroup_largest(won.x, at);
  return ~workgroup_largest(select(0, ~won.y, won.x == rank), at);
}

fn sum_before(n: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < n; i++) { sum += masses[i]; }
  return sum;
}

// The mass after which top-p keeps nothing. The best logit's weight is 1, so 0.5 keeps just that.
fn goal_of(row: u32, mass: f32) -> f32 { return max(slots[row].top_p * mass, 0.5); }

// What top-p keeps of the first n of the list.
fn limit(row: u32, n: u32, scale: Scale, at: Lane) -> Threshold {
  var kept = n;
  if (slots[row].top_p < 1) {
    for (var i = at.lane; i < n; i += WORKGROUP_SIZE) {
      masses[i] = weight_of(list_key[order[i]], scale);
    }
    workgroupBarrier();
    let goal = goal_of(row, sum_before(n));
    kept = 0;
    for (var i = at.lane; i < n; i += WORKGROUP_SIZE) {
      if (sum_before(i) < goal) { kept = i + 1; }
    }
    kept = workgroup_largest(kept, at);
  }
  let last = order[kept - 1];
  return Threshold(list_key[last], list_id[last]);
}

fn draw(row: u32, k: u32, found: Best, top_key: u32, at: Lane) {
  let scale = scale_of(row, top_key);
  let all = k == 0 && found.keep.key == 1;  // is kept, but for min-p
  let limited = slots[row].top_p < 1 && (all || k > LIST_SIZE);  // by top-p, whose threshold is not known
  var keep = found.keep;
  if (k != 0 && k <= LIST_SIZE) { keep = limit(row, min(k, found.listed), scale, at); }

  // A winner with the goal or more before it is beyond top-p, and so is all after it.
  var id = 0u;
  var goal = 0.0;
  for (var turn = u32(!limited); ; turn++) {
    if (turn > 0) {
      id = winner(row, keep, all && turn == 1 && needs_race(row), scale, at);
      if (!limited) { break; }
      keep = Threshold(key_at(row, id) + u32(id == 0), id - 1);
    }
    let mass = mass_of(row, keep, all && turn == 0, scale, at);
    if (turn == 0) { goal = goal_of(row, mass); } else if (mass < goal) { break; }
  }
  if (at.lane == 0) { ids[row] = id; }
}

// Lists the best, or draws from them.
fn choose(row: u32, at: Lane) {
  let count = summary_count();
  var best = 0u;  // of this lane
  for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
    best = max(best, summaries[row * count + s].key);
  }
  let top_key = workgroup_largest(best, at);

  let listing = params.phase == LISTS;
  var k = params.top_k;
  var found = Best(0, everything());
  if (!listing) {
    k = top_k_of(row);
    if (slots[row].temperature <= 0) {
      k = 0;
      found.keep.key = max(top_key, 1);
    }
  }
  if (k != 0) { found = find_best(row, k, best, top_key, at); }
  if (!listing) {
    if (top_key != 0) { draw(row, k, found, top_key, at); } else if (at.lane == 0) { ids[row] = 0; }
    return;
  }
  for (var i = at.lane; i < k; i += WORKGROUP_SIZE) {
    var id = NO_ID;
    var logit = -3.4e38;
    if (i < found.listed) {
      id = list_id[order[i]];
      logit = softcap(logit_of(list_key[order[i]]), params.logit_softcap);
    }
    ids[row * k + i] = id;
    topk_logits[row * k + i] = logit;
  }
}

// Each recent token and each biased id is some lane's; of equal ones the last does the work.
fn penalise(row: u32, subject: u32) {
  let position = min(slots[row].position, params.capacity);
  let end = position + u32(position < params.capacity);  // tokens up to the position, itself among them
  let recent = min(slots[row].penalty_last_n, end);
  let first = row * params.capacity + end - recent;
  if (subject >= recent + params.biases) { return; }
  var token = 0u;
  if (subject < recent) {
    token = history[first + subject];
  } else {
    token = bias[row * params.biases + subject - recent].x;
  }
  if (token >= params.vocab_size) { return; }

  var repeats = 0u;
  var change = 0.0;
  var owner = 0u;
  for (var i = 0u; i < recent; i++) {
    if (history[first + i] == token) {
      repeats++;
      owner = i;
    }
  }
  for (var i = 0u; i < params.biases; i++) {
    let pair = bias[row * params.biases + i];
    if (pair.x == token) {
      change += bitcast<f32>(pair.y);
      owner = recent + i;
    }
  }
  if (owner != subject) { return; }
  let i = row * params.vocab_size + token;
  var logit = logits[i];
  if (key_of(logit) == 0) { return; }
  if (repeats > 0) {
    let penalty = slots[row].repeat_penalty;
    if (logit > 0) { logit /= penalty; } else { logit *= penalty; }
    logit -= f32(repeats) * slots[row].frequency_penalty + slots[row].presence_penalty;
  }
  logits[i] = clamp(logit + change, -3.4e38, 3.4e38);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let index = group.id.y * group.count.x + group.id.x;
  let row = index / params.parts;
  if (row >= params.rows) { return; }  // uniform: a whole workgroup leaves together
  if (params.has_slots != 0 && slots[row].stopped != 0) { return; }
  let lane = index % params.parts * WORKGROUP_SIZE + at.lane;
  switch (params.phase) {
    case SUMMARIES: { summarise(row, lane); }
    case PENALTIES: {
      let lanes_of_row = params.parts * WORKGROUP_SIZE;
      for (var i = lane; i < params.capacity + params.biases; i += lanes_of_row) { penalise(row, i); }
    }
    default: { choose(row, at); }  // LISTS, DRAW
  }
}
