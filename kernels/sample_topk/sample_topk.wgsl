// sample_topk.wgsl: draws a token per row by its Slot's sampler parameters, or lists a row's top k.
//
// By the uniform `phase`; a row is a slot, and rows whose slot does not run are left as they are:
//   0 summaries  a lane per group of 16 logits: its largest key, and its mass or its best score
//   1 lists      a workgroup a row: the top_k largest logits and their ids
//   2 draw       a workgroup a row: the token
//   3 penalties  a lane per recent token or biased id, in place on the logits, before phase 0
// What is kept is everything at or before a threshold (key, id) in the order of falling logit, then rising
// id. Where few logits reach a bound that the summaries give, they are listed and ranked; else a radix search
// over keys, then ids, finds the threshold. The draw is the largest of logit / temperature plus Gumbel noise
// of (seed, position, id) among the kept: it depends on no order of sums. Any vocabulary, any k; lists of at
// most 256. Grid: workgroups by phase, folded into (x, y) beyond 65535.
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

const SPAN = 16u;        // logits that a summary covers, WORKGROUP_SIZE apart
const LIST_SIZE = 512u;  // logits that are ranked at most
const NO_ID = 0xffffffffu;

struct Params {
  phase: u32,
  rows: u32,
  vocab_size: u32,
  top_k: u32,          // of the lists
  pad_token_id: u32,   // never drawn; NO_ID: none
  logit_softcap: f32,  // 0: none
  has_slots: u32,      // 0: every row runs
  has_mask: u32,
  capacity: u32,       // of the history; 0: there is none
  biases: u32,         // pairs a row
}

// Of SPAN logits: their largest key, and by need_of() their mass or their best score, relative to that key.
struct Summary { key: u32, value: f32 }

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> slots: array<Slot>;               // [rows]
@group(0) @binding(2) var<storage, read> history: array<u32>;              // [rows, capacity]
@group(0) @binding(3) var<storage, read> bias: array<vec2u>;               // [rows, biases]: id, f32
@group(0) @binding(4) var<storage, read> mask: array<u32>;                 // [rows, (vocab_size + 31) / 32]
@group(0) @binding(5) var<storage, read_write> logits: array<f32>;         // [rows, vocab_size]
@group(0) @binding(6) var<storage, read_write> summaries: array<Summary>;  // [rows, summary_count()]
@group(0) @binding(7) var<storage, read_write> ids: array<u32>;            // [rows] drawn, or [rows, top_k] listed
@group(0) @binding(8) var<storage, read_write> topk_logits: array<f32>;    // [rows, top_k] listed

var<workgroup> lanes: array<u32, WORKGROUP_SIZE>;
var<workgroup> listed: atomic<u32>;
var<workgroup> list_key: array<u32, LIST_SIZE>;
var<workgroup> list_id: array<u32, LIST_SIZE>;
var<workgroup> order: array<u32, LIST_SIZE>;       // indices into the list, best first
var<workgroup> amounts: array<f32, LIST_SIZE>;     // in that order, or of the histogram
var<workgroup> histogram: array<atomic<u32>, WORKGROUP_SIZE>;  // low words
var<workgroup> carries: array<atomic<u32>, WORKGROUP_SIZE>;    // high words
var<workgroup> shared_u32: u32;
var<workgroup> shared_f32: f32;

// --- one logit

fn key_at(row: u32, id: u32) -> u32 {
  if (id >= params.vocab_size || id == params.pad_token_id) { return 0; }
  return key_of(logits[row * params.vocab_size + id]);
}

// The logit after the softcap, small enough that a difference of two is finite.
fn level(key: u32) -> f32 {
  return clamp(logit_of(key), -1e38, 1e38);
}

// How a row's logits become probabilities: those of falling depth below the largest, `top`.
struct Scale { top: f32, temperature: f32, noise: vec2u }

fn scale_of(row: u32, top_key: u32) -> Scale {
  let seed = slots[row].seed;
  let position = slots[row].position;
  return Scale(level(top_key), max(slots[row].temperature, 1e-20),
               vec2u(mix(seed + mix(position)), mix(position + mix(~seed))));
}

// (logit - top) / temperature, at most 0; -100 for all that has no mass in f32.
fn depth(key: u32, scale: Scale) -> f32 {
  return max(level(key) - scale.top, -100 * scale.temperature) / scale.temperature;
}

fn weight(key: u32, scale: Scale) -> f32 { return exp(depth(key, scale)); }

// A bijection of u32 whose output bits depend on all input bits (multiply and xor-shift).
fn mix(value: u32) -> u32 {
  var x = value;
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

// The logarithm of the probability plus Gumbel noise -ln(-ln(1 - u)), u uniform of 32 bits: its largest is a
// draw (Gumbel, 1954). The rare winners have small u, so -ln(1 - u) is a series there.
fn score(key: u32, id: u32, scale: Scale) -> f32 {
  let u = min((f32(mix(mix(id + scale.noise.x) ^ scale.noise.y)) + 0.5) / 4294967296.0, 0.99999994);
  let e = select(-log(1 - u), u * (1 + u * (0.5 + u * (0.33333333 + u * 0.25))), u < 0.03);
  return depth(key, scale) - log(e);
}

// --- summaries

const NOTHING = 0;
const MASS = 1;
const SCORE = 2;

// Top-k as a row's slot has it; 0: the whole vocabulary.
fn top_k_of(row: u32) -> u32 { return select(slots[row].top_k, 0, slots[row].top_k >= params.vocab_size); }

// What of each summary the draw will use besides the key.
fn need_of(row: u32) -> i32 {
  if (params.has_slots == 0 || slots[row].temperature <= 0 || top_k_of(row) != 0) { return NOTHING; }
  if (slots[row].top_p < 1) { return MASS; }
  return select(SCORE, NOTHING, slots[row].min_p > 0);
}

fn summary_count() -> u32 {
  let chunk = WORKGROUP_SIZE * SPAN;
  return (params.vocab_size + chunk - 1) / chunk * WORKGROUP_SIZE;
}

fn id_of(summary: u32, i: u32) -> u32 {
  return summary / WORKGROUP_SIZE * WORKGROUP_SIZE * SPAN + i * WORKGROUP_SIZE + summary % WORKGROUP_SIZE;
}

fn summarise(row: u32, summary: u32) {
  var best = 0u;
  for (var i = 0u; i < SPAN; i++) { best = max(best, key_at(row, id_of(summary, i))); }
  let need = need_of(row);
  var value = 0.0;
  if (need != NOTHING && best != 0) {
    let scale = scale_of(row, best);
    if (need == SCORE) { value = -3.4e38; }
    for (var i = 0u; i < SPAN; i++) {
      let id = id_of(summary, i);
      let key = key_at(row, id);
      if (key == 0) { continue; }
      if (need == MASS) { value += weight(key, scale); } else { value = max(value, score(key, id, scale)); }
    }
  }
  summaries[row * summary_count() + summary] = Summary(best, value);
}

// --- what is kept

struct Threshold { key: u32, id: u32 }
const ALL = Threshold(1, NO_ID);  // but key 0

fn is_kept(key: u32, id: u32, keep: Threshold) -> bool {
  return key > keep.key || (key == keep.key && id <= keep.id);
}

// The largest key of this lane's summaries of a row.
fn lane_best(row: u32, at: Lane) -> u32 {
  let count = summary_count();
  var best = 0u;
  for (var s = at.lane; s < count; s += WORKGROUP_SIZE) { best = max(best, summaries[row * count + s].key); }
  return best;
}

// Lists what is kept, in no order; returns its number, of which LIST_SIZE are listed.
fn list(row: u32, keep: Threshold, at: Lane) -> u32 {
  if (at.lane == 0) { atomicStore(&listed, 0); }
  workgroupBarrier();
  let count = summary_count();
  for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
    if (summaries[row * count + s].key < keep.key) { continue; }
    for (var i = 0u; i < SPAN; i++) {
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

// Lists at least the k best and returns how many; beyond LIST_SIZE when a list cannot hold them. The bound is
// the k-th largest of what each lane holds: k logits reach it, and few more if the best are spread well.
fn list_best(row: u32, k: u32, best: u32, at: Lane) -> u32 {
  if (k > WORKGROUP_SIZE / 2) { return LIST_SIZE + 1; }
  lanes[at.lane] = best;
  workgroupBarrier();
  var rank = 0u;
  for (var i = 0u; i < WORKGROUP_SIZE; i++) { rank += u32(lanes[i] > best || (lanes[i] == best && i < at.lane)); }
  if (rank == k - 1) { shared_u32 = max(best, 1); }
  return list(row, Threshold(workgroupUniformLoad(&shared_u32), NO_ID), at);
}

// Orders the first n of the list, best first.
fn rank_list(n: u32, at: Lane) {
  for (var i = at.lane; i < n; i += WORKGROUP_SIZE) {
    let key = list_key[i];
    let id = list_id[i];
    var rank = 0u;
    for (var j = 0u; j < n; j++) { rank += u32(list_key[j] > key || (list_key[j] == key && list_id[j] < id)); }
    order[rank] = i;
  }
  workgroupBarrier();
}

fn sum_before(n: u32) -> f32 {
  var sum = 0.0;
  for (var i = 0u; i < n; i++) { sum += amounts[i]; }
  return sum;
}

// The shortest beginning of a row's order whose mass (or, by_count, number) reaches the goal; all of it if
// nothing does. Masses are counted in units of 2^-31, in 64 bits: integers sum to the same in any order.
fn search(row: u32, by_count: bool, goal: f32, top_key: u32, scale: Scale, at: Lane) -> Threshold {
  let count = summary_count();
  let bin_bits = firstLeadingBit(WORKGROUP_SIZE);
  var above = 0.0;  // reached before the range that is looked at
  var found = Threshold(top_key, NO_ID);
  for (var stage = 0; stage < 2; stage++) {
    // First by ~key, then by id among the found key.
    let by_id = stage == 1;
    var first = select(~top_key, 0, by_id);
    var last = select(~1u, params.vocab_size - 1, by_id);
    while (true) {
      let shift = max(32 - countLeadingZeros(last - first), bin_bits) - bin_bits;
      atomicStore(&histogram[at.lane], 0);
      atomicStore(&carries[at.lane], 0);
      workgroupBarrier();
      let reach = select(~last, found.key, by_id);
      for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
        if (summaries[row * count + s].key < reach) { continue; }
        for (var i = 0u; i < SPAN; i++) {
          let id = id_of(s, i);
          let key = key_at(row, id);
          let value = select(~key, id, by_id);
          if (value < first || value > last || (by_id && key != found.key)) { continue; }
          let bin = (value - first) >> shift;
          var amount = 1u;
          if (!by_count) { amount = u32(weight(key, scale) * 2147483648.0 + 0.5); }
          let low = atomicAdd(&histogram[bin], amount);
          if (low + amount < low) { atomicAdd(&carries[bin], 1); }
        }
      }
      workgroupBarrier();
      var amount = f32(atomicLoad(&carries[at.lane])) * 4294967296.0 + f32(atomicLoad(&histogram[at.lane]));
      if (!by_count) { amount /= 2147483648.0; }
      amounts[at.lane] = amount;
      workgroupBarrier();
      let before = above + sum_before(at.lane);
      // The first bin that reaches the goal; else the last that holds anything.
      let reached = workgroup_largest(select(0, WORKGROUP_SIZE - at.lane, amount > 0 && before + amount >= goal), at);
      let filled = workgroup_largest(select(0, at.lane + 1, amount > 0), at);
      let bin = select(WORKGROUP_SIZE - reached, max(filled, 1) - 1, reached == 0);
      if (at.lane == bin) { shared_f32 = before; }
      above = workgroupUniformLoad(&shared_f32);
      first += bin << shift;
      last = first + min(last - first, (1u << shift) - 1);
      if (shift == 0) { break; }
    }
    if (by_id) { found.id = first; } else { found.key = ~first; }
  }
  return found;
}

// What top-k and top-p keep of a row. A row's largest weight is 1, so a goal of 0.5 keeps just that.
fn threshold(row: u32, best: u32, top_key: u32, scale: Scale, at: Lane) -> Threshold {
  let count = summary_count();
  let k = top_k_of(row);
  let p = slots[row].top_p;
  var total = 0.0;
  if (k == 0) {
    for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
      let summary = summaries[row * count + s];
      if (summary.key != 0) { total += summary.value * weight(summary.key, scale); }
    }
    total = workgroup_sum(total, at);
  }

  let n = list_best(row, select(k, WORKGROUP_SIZE / 2, k == 0), best, at);
  if (n <= LIST_SIZE) {
    rank_list(n, at);
    for (var i = at.lane; i < n; i += WORKGROUP_SIZE) { amounts[i] = weight(list_key[order[i]], scale); }
    workgroupBarrier();
    let most = select(min(k, n), n, k == 0);
    var goal = 3.4e38;
    if (p < 1) { goal = max(p * select(sum_before(most), total, k == 0), 0.5); }
    var kept = 0u;
    for (var i = at.lane; i < most; i += WORKGROUP_SIZE) {
      if (sum_before(i) < goal) { kept = i + 1; }
    }
    kept = workgroup_largest(kept, at);
    // Without top-k the list must go beyond the last that is kept, or it may be too short.
    if (k != 0 || kept < n) { return Threshold(list_key[order[kept - 1]], list_id[order[kept - 1]]); }
  }

  var keep = ALL;
  if (k != 0) { keep = search(row, true, f32(k), top_key, scale, at); }
  if (p >= 1) { return keep; }
  if (k != 0) {
    for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
      if (summaries[row * count + s].key < keep.key) { continue; }
      for (var i = 0u; i < SPAN; i++) {
        let id = id_of(s, i);
        let key = key_at(row, id);
        if (is_kept(key, id, keep)) { total += weight(key, scale); }
      }
    }
    total = workgroup_sum(total, at);
  }
  return search(row, false, max(p * total, 0.5), top_key, scale, at);
}

// --- the phases

fn lists(row: u32, at: Lane) {
  let best = lane_best(row, at);
  let top_key = workgroup_largest(best, at);
  var n = list_best(row, params.top_k, best, at);
  if (n > LIST_SIZE) {
    n = list(row, search(row, true, f32(params.top_k), top_key, Scale(), at), at);
  }
  rank_list(n, at);
  for (var i = at.lane; i < params.top_k; i += WORKGROUP_SIZE) {
    var id = NO_ID;
    var logit = -3.4e38;
    if (i < n) {
      id = list_id[order[i]];
      logit = softcap(logit_of(list_key[order[i]]), params.logit_softcap);
    }
    ids[row * params.top_k + i] = id;
    topk_logits[row * params.top_k + i] = logit;
  }
}

fn draw(row: u32, at: Lane) {
  let best = lane_best(row, at);
  let top_key = workgroup_largest(best, at);
  if (top_key == 0) {
    if (at.lane == 0) { ids[row] = 0; }
    return;
  }
  let count = summary_count();
  let scale = scale_of(row, top_key);
  let greedy = slots[row].temperature <= 0;
  var keep = ALL;
  if (greedy) {
    keep.key = top_key;
  } else if (top_k_of(row) != 0 || slots[row].top_p < 1) {
    keep = threshold(row, best, top_key, scale, at);
  }
  var lowest = -3.4e38;  // level that min-p keeps
  if (slots[row].min_p > 0) { lowest = scale.top + scale.temperature * log(min(slots[row].min_p, 1)); }

  // With nothing to keep apart, the best score is known from the summaries.
  let scored = need_of(row) == SCORE;
  var bar = 0u;
  if (scored) {
    for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
      let summary = summaries[row * count + s];
      if (summary.key != 0) { bar = max(bar, key_of(summary.value + depth(summary.key, scale))); }
    }
    bar = workgroup_largest(bar, at);
  }

  // Score and id. Each lane's ids grow, so the first of equal scores is the lowest.
  var winner = vec2u(0);
  for (var s = at.lane; s < count; s += WORKGROUP_SIZE) {
    let summary = summaries[row * count + s];
    if (summary.key < keep.key) { continue; }
    if (scored && key_of(summary.value + depth(summary.key, scale)) < bar) { continue; }
    for (var i = 0u; i < SPAN; i++) {
      let id = id_of(s, i);
      let key = key_at(row, id);
      if (!is_kept(key, id, keep) || level(key) < lowest) { continue; }
      var rank = key;
      if (!greedy) { rank = key_of(score(key, id, scale)); }
      if (rank > winner.x) { winner = vec2u(rank, id); }
    }
  }
  let rank = workgroup_largest(winner.x, at);
  let id = ~workgroup_largest(select(0, ~winner.y, winner.x == rank), at);
  if (at.lane == 0) { ids[row] = id; }
}

// Each token of the recent history and each biased id is some lane's; of equal ones the last does the work.
fn penalise(row: u32, lane: u32) {
  let position = slots[row].position;
  let last = min(position + 1, params.capacity);  // one beyond
  let recent = min(slots[row].penalty_last_n, last);
  let first = row * params.capacity + last - recent;
  if (lane >= recent + params.biases) { return; }
  var token = 0u;
  if (lane < recent) { token = history[first + lane]; } else { token = bias[row * params.biases + lane - recent].x; }
  if (token >= params.vocab_size) { return; }

  var repeats = 0u;
  var change = 0.0;
  var owner = 0u;
  for (var i = 0u; i < recent; i++) {
    if (history[first + i] == token) { repeats++; owner = i; }
  }
  for (var i = 0u; i < params.biases; i++) {
    let pair = bias[row * params.biases + i];
    if (pair.x == token) { change += bitcast<f32>(pair.y); owner = recent + i; }
  }
  let i = row * params.vocab_size + token;
  var logit = logits[i];
  if (owner != lane || key_of(logit) == 0) { return; }
  if (repeats > 0) {
    let penalty = slots[row].repeat_penalty;
    if (logit > 0) { logit /= penalty; } else { logit *= penalty; }
    logit -= f32(repeats) * slots[row].frequency_penalty + slots[row].presence_penalty;
  }
  logits[i] = clamp(logit + change, -3.4e38, 3.4e38);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  var parts = 1u;  // workgroups of a row
  if (params.phase == SUMMARIES) { parts = summary_count() / WORKGROUP_SIZE; }
  if (params.phase == PENALTIES) { parts = (params.capacity + params.biases + WORKGROUP_SIZE - 1) / WORKGROUP_SIZE; }
  let index = group.id.y * group.count.x + group.id.x;
  let row = index / parts;
  if (row >= params.rows) { return; }  // uniform, as is all that chooses a path: a whole workgroup leaves together
  if (params.has_slots != 0 && slots[row].stopped != 0) { return; }
  let lane = index % parts * WORKGROUP_SIZE + at.lane;
  switch (params.phase) {
    case SUMMARIES: { summarise(row, lane); }
    case LISTS: { lists(row, at); }
    case DRAW: { draw(row, at); }
    default: { penalise(row, lane); }
  }
}
