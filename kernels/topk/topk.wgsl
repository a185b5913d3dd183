// topk.wgsl: the top_k largest probabilities of each token over its experts, or, of logits, of their softmax.
//
// Descending; of equal ones the lowest id comes first. normalize divides what is kept by its sum; a sum of 0 gives zeros.
// Any top_k. A workgroup per token, where an expert's rank is the number of those that
// come before it; with SMALL_K a lane per token. Grid: tokens, or tokens / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 256 experts, 2^32 - 1 elements; SMALL_K takes 2 of at most 8 experts.
// Replaces main, topk_2_small and softmax_topk of the old topk.wgsl.

#import lane
#import reduce
#import order

override WORKGROUP_SIZE: u32 = 256;      // power of two
override FUSED_SOFTMAX: bool = false;    // x holds logits, else probabilities
override SMALL_K: bool = false;          // top_k is 2, of 2 to 8 experts: one lane a token

struct Params {
  num_tokens: u32,
  num_experts: u32,  // up to 256
  top_k: u32,        // up to num_experts
  normalize: u32,    // 1: the weights of a token add up to 1
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;              // [num_tokens, num_experts] finite
@group(0) @binding(2) var<storage, read_write> indices: array<u32>;  // [num_tokens, top_k]
@group(0) @binding(3) var<storage, read_write> weights: array<f32>;  // [num_tokens, top_k]

const MOST = 256u;
const LOWEST = -0x1.fffffep127f;

var<workgroup> keys: array<u32, select(1, MOST, !SMALL_K)>;    // of each expert, by shared/order.wgsl
var<workgroup> chosen: array<u32, select(1, MOST, !SMALL_K)>;  // the expert of each rank

// What is proportional to the probability of x: itself, or exp(x - top). Halved, since the difference of two floats
// may overflow; bounded where exp is 0 anyway.
fn mass(value: f32, top: f32) -> f32 {
  if (!FUSED_SOFTMAX) { return value; }
  return exp(2 * max(0.5 * value - 0.5 * top, -100.0));
}

fn share(part: f32, whole: f32) -> f32 {
  if (whole == 0) { return 0; }
  return part / whole;
}

// One token by one lane: the two largest of a few.
fn two_of_few(token: u32) {
  let n = params.num_experts;
  let base = token * n;
  var best = 0u;
  for (var e = 1u; e < n; e++) {
    if (x[base + e] > x[base + best]) { best = e; }
  }
  var second = select(0u, 1u, best == 0);
  for (var e = second + 1; e < n; e++) {
    if (e != best && x[base + e] > x[base + second]) { second = e; }
  }
  let top = x[base + best];
  let a = mass(x[base + best], top);
  let b = mass(x[base + second], top);
  var whole = 1.0;
  if (params.normalize != 0) {
    whole = a + b;
  } else if (FUSED_SOFTMAX) {
    whole = 0;
    for (var e = 0u; e < n; e++) { whole += mass(x[base + e], top); }
  }
  indices[2 * token] = best;
  indices[2 * token + 1] = second;
  weights[2 * token] = share(a, whole);
  weights[2 * token + 1] = share(b, whole);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let index = group.id.y * group.count.x + group.id.x;
  if (SMALL_K) {
    let token = index * WORKGROUP_SIZE + at.lane;
    if (token < params.num_tokens) { two_of_few(token); }
    return;
  }
  let token = index;
  if (token >= params.num_tokens) { return; }  // uniform: a whole workgroup leaves together
  let n = params.num_experts;
  let base = token * n;
  var top = LOWEST;
  for (var e = at.lane; e < n; e += WORKGROUP_SIZE) {
    keys[e] = key_of(x[base + e]);
    top = max(top, x[base + e]);
  }
  var whole = 1.0;
  if (FUSED_SOFTMAX) {
    top = workgroup_max(top, at);
    var sum = 0.0;
    for (var e = at.lane; e < n; e += WORKGROUP_SIZE) { sum += mass(x[base + e], top); }
    whole = workgroup_sum(sum, at);
  }
  workgroupBarrier();
  for (var e = at.lane; e < n; e += WORKGROUP_SIZE) {
    let key = keys[e];
    var rank = 0u;
    for (var other = 0u; other < n; other++) {
      rank += u32(keys[other] > key || (keys[other] == key && other < e));
    }
    if (rank < params.top_k) { chosen[rank] = e; }
  }
  workgroupBarrier();
  if (params.normalize != 0) {
    var kept = 0.0;
    for (var rank = at.lane; rank < params.top_k; rank += WORKGROUP_SIZE) { kept += mass(x[base + chosen[rank]], top); }
    whole = workgroup_sum(kept, at);
  }
  for (var rank = at.lane; rank < params.top_k; rank += WORKGROUP_SIZE) {
    let to = token * params.top_k + rank;
    indices[to] = chosen[rank];
    weights[to] = share(mass(x[base + chosen[rank]], top), whole);
  }
}
