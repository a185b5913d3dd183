// moe_gather.wgsl: the rows of tokens, sorted by the experts that the tokens were sent to.
//
// Token t's k-th expert is pair t * top_k + k. A pair's place within its expert is the number of earlier pairs of that
// expert: the same each time, without atomics. Where its row is, max_tokens_per_expert says:
//   0      compact: an expert's rows behind those of the experts before it, num_tokens * top_k in all
//   other  row expert * max_tokens_per_expert + place; it is num_tokens at least, and a token's experts differ, so that
//          an expert's rows never run out
// Entry points, each a pass over the same bindings:
//   count_and_map       the pairs of each expert, and where each pair's row is. A workgroup per expert
//   gather_tokens       behind it, the rows: an element a lane. Rows without a pair become zeros
//   gather_tokens_vec4  the same, four elements a lane
//   gather_single_pass  all in one dispatch, for few tokens. A workgroup per expert. Rows without a pair stay as they are
// Grid: experts, or lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^30 rows and 2^32 - 1 elements of gathered; gather_tokens_vec4 takes hidden_size in fours.
// Replaces the same four of the old moe_gather.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;

struct Params {
  num_tokens: u32,
  hidden_size: u32,            // with gather_tokens_vec4 a multiple of 4
  num_experts: u32,
  top_k: u32,
  max_tokens_per_expert: u32,  // 0: compact
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> hidden: array<vec4f>;              // [num_tokens, hidden_size] f32
@group(0) @binding(2) var<storage, read> expert_indices: array<u32>;        // [num_tokens, top_k], below num_experts
@group(0) @binding(3) var<storage, read_write> gathered: array<f32>;        // [rows, hidden_size]; not vec4f: lanes must not share one
@group(0) @binding(4) var<storage, read_write> token_counts: array<u32>;    // [num_experts] pairs
@group(0) @binding(5) var<storage, read_write> token_map: array<vec2u>;     // [rows] token and k of a row
@group(0) @binding(6) var<storage, read_write> token_offsets: array<u32>;   // [num_tokens, top_k] row of a pair
@group(0) @binding(7) var<storage, read_write> row_experts: array<u32>;     // [rows] expert of a row

var<workgroup> tallies: array<vec2u, WORKGROUP_SIZE>;  // of a lane's pairs: those of the expert, those of experts before it

fn index_of(group: Group) -> u32 { return group.id.y * group.count.x + group.id.x; }

// The rows of an expert: the first one, and how many.
struct Rows { first: u32, count: u32 }

// Counts and maps the pairs of an expert. Uniform control flow only.
fn map_pairs(expert: u32, lane: u32) -> Rows {
  let pairs = params.num_tokens * params.top_k;
  let share = max(1u, (pairs + WORKGROUP_SIZE - 1) / WORKGROUP_SIZE);
  let begin = min(lane * share, pairs);
  let end = min(begin + share, pairs);
  var mine = vec2u();
  for (var p = begin; p < end; p++) {
    let e = expert_indices[p];
    mine += vec2u(u32(e == expert), u32(e < expert));
  }
  tallies[lane] = mine;
  workgroupBarrier();
  var place = 0u;
  var all = vec2u();
  for (var i = 0u; i * share < pairs; i++) {  // the lanes that have any
    if (i == lane) { place = all.x; }
    all += tallies[i];
  }
  let first = select(all.y, expert * params.max_tokens_per_expert, params.max_tokens_per_expert != 0);
  if (lane == 0) { token_counts[expert] = all.x; }
  for (var p = begin; p < end; p++) {
    if (expert_indices[p] != expert) { continue; }
    let row = first + place;
    token_map[row] = vec2u(p / params.top_k, p % params.top_k);
    token_offsets[p] = row;
    row_experts[row] = expert;
    place++;
  }
  return Rows(first, all.x);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn count_and_map(group: Group, at: Lane) {
  let expert = index_of(group);
  if (expert < params.num_experts) { _ = map_pairs(expert, at.lane); }
}

// Whether a row has a pair.
fn is_used(row: u32) -> bool {
  if (params.max_tokens_per_expert == 0) { return true; }
  return row % params.max_tokens_per_expert < token_counts[row / params.max_tokens_per_expert];
}

fn row_count() -> u32 {
  return select(params.num_experts * params.max_tokens_per_expert, params.num_tokens * params.top_k, params.max_tokens_per_expert == 0);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_tokens(group: Group, at: Lane) {
  let i = index_of(group) * WORKGROUP_SIZE + at.lane;
  let row = i / params.hidden_size;
  if (row >= row_count()) { return; }
  var e = 0.0;
  if (is_used(row)) {
    let source = token_map[row].x * params.hidden_size + i % params.hidden_size;
    e = hidden[source / 4][source % 4];
  }
  gathered[i] = e;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_tokens_vec4(group: Group, at: Lane) {
  let width = params.hidden_size / 4;
  let i = index_of(group) * WORKGROUP_SIZE + at.lane;
  let row = i / width;
  if (row >= row_count()) { return; }
  var e = vec4f();
  if (is_used(row)) { e = hidden[token_map[row].x * width + i % width]; }
  gathered[4 * i] = e.x;
  gathered[4 * i + 1] = e.y;
  gathered[4 * i + 2] = e.z;
  gathered[4 * i + 3] = e.w;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn gather_single_pass(group: Group, at: Lane) {
  let expert = index_of(group);
  if (expert >= params.num_experts) { return; }  // uniform: a whole workgroup leaves together
  let rows = map_pairs(expert, at.lane);
  storageBarrier();  // the map is this workgroup's own
  for (var row = rows.first; row < rows.first + rows.count; row++) {
    let source = token_map[row].x * params.hidden_size;
    for (var col = at.lane; col < params.hidden_size; col += WORKGROUP_SIZE) {
      gathered[row * params.hidden_size + col] = hidden[(source + col) / 4][(source + col) % 4];
    }
  }
}
