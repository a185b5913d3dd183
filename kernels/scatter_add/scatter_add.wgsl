// scatter_add.wgsl: output[t] = sum over k of weights[t, k] * expert_outputs[row of (t, k)], on top of output[t] if accumulate.
//
// Added up in the order of k. Each expert has a row for each token, expert * num_tokens + token; with DYNAMIC_LAYOUT
// token_offsets says where the row is, as moe_gather left it. One element a lane, or four.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements; USE_VEC4 takes hidden_size in fours.
// Replaces main, scatter_add_vec4, scatter_add_dynamic and scatter_add_accumulate of the old scatter_add.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;        // four elements a lane; hidden_size a multiple of 4
override DYNAMIC_LAYOUT: bool = false;  // rows are where token_offsets says

struct Params {
  num_tokens: u32,
  hidden_size: u32,
  top_k: u32,
  accumulate: u32,  // 1: on top of what output holds
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> expert_outputs: array<vec4f>;  // [rows, hidden_size] f32
@group(0) @binding(2) var<storage, read> indices: array<u32>;           // [num_tokens, top_k] experts, unread with DYNAMIC_LAYOUT
@group(0) @binding(3) var<storage, read> weights: array<f32>;           // [num_tokens, top_k]
@group(0) @binding(4) var<storage, read_write> output: array<f32>;      // [num_tokens, hidden_size]; not vec4f: lanes must not share one
@group(0) @binding(5) var<storage, read> token_offsets: array<u32>;     // [num_tokens, top_k] rows, with DYNAMIC_LAYOUT

fn row_of(token: u32, pair: u32) -> u32 {
  if (DYNAMIC_LAYOUT) { return token_offsets[pair]; }
  return indices[pair] * params.num_tokens + token;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let width = select(params.hidden_size, params.hidden_size / 4, USE_VEC4);  // lanes a row
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let token = i / width;
  if (token >= params.num_tokens) { return; }
  var sum = vec4f();
  for (var k = 0u; k < params.top_k; k++) {
    let pair = token * params.top_k + k;
    let source = row_of(token, pair) * width + i % width;
    if (USE_VEC4) {
      sum += weights[pair] * expert_outputs[source];
    } else {
      sum.x += weights[pair] * expert_outputs[source / 4][source % 4];
    }
  }
  let to = select(i, 4 * i, USE_VEC4);
  for (var j = 0u; j < select(1u, 4u, USE_VEC4); j++) {
    var before = 0.0;
    if (params.accumulate != 0) { before = output[to + j]; }
    output[to + j] = before + sum[j];
  }
}
