// rope_compute.wgsl: rotates pairs of each head's first dimensions, in place, by position * frequency, without tables.
//
// Pair i turns by base^(-2i / rotary_dim) radians a position, stretched by scaling_mode. Frequencies and angles are
// integers, so that position 2^20 is as exact as 1: cosine and sine are right to 3e-7.
// A lane rotates one pair of up to eight heads. Grid: rows * heads / 8 * pairs / WORKGROUP_SIZE, folded into (x, y)
// beyond 65535. Any sizes.
// Limits: 2^32 - 1 elements, positions below 2^32 - 1.
// Replaces rope_compute_freqs, rope_qk, rope_ntk_scaled and rope_yarn of the old rope.wgsl.

#import lane
#import turns

override WORKGROUP_SIZE: u32 = 256;

// Fractions of 64 bits are two words, the high one first.
struct Params {
  seq_len: u32,           // rows
  num_heads: u32,
  head_dim: u32,
  rotary_dim: u32,        // dimensions that rotate, the first of each head; even, at most head_dim
  start_pos: u32,         // position of row 0
  interleaved: u32,       // 1: pairs are (2i, 2i + 1); 0: (i, i + rotary_dim / 2)
  fused_qk: u32,          // 1: a head is Q | K, each of head_dim
  scaling_mode: u32,      // 0 linear, 1 NTK, 2 YaRN, 3 Llama 3
  attention_factor: f32,  // multiplies the result
  step_high: u32,         // base^(-2 / rotary_dim), of the base that NTK has stretched; a fraction
  step_low: u32,
  loss_high: u32,         // 1 - 1 / factor, what a frequency loses that is divided by the factor; a fraction
  loss_low: u32,
  ramp_first: u32,        // YaRN: up to this pair, nothing is divided
  ramp_last: u32,         // YaRN: from this pair on, all
  fast_high: u32,         // Llama 3: from this frequency on, nothing is divided; a fraction
  fast_low: u32,
  slow_high: u32,         // Llama 3: up to this frequency, all; a fraction
  slow_low: u32,
  slope_high: u32,        // YaRN: 1 / (ramp_last - ramp_first), a fraction.
  slope_low: u32,         // Llama 3: 1 / (fast - slow), 32 bits and a fraction of 32
}

const LINEAR = 0;
const YARN = 2;
const LLAMA3 = 3;

const HEADS = 8u;  // that a lane rotates by the angle it computes
const RADIAN = vec2u(0x28be60db, 0x9391054a);  // 1 / (2 pi) turns
const ONE = vec2u(0xffffffff, 0xffffffff);  // 1 - 2^-64

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> x: array<f32>;  // [seq_len, num_heads, head_dim], or 2 * head_dim if fused_qk

// a * b of fractions, up to three units too small.
fn multiply(a: vec2u, b: vec2u) -> vec2u {
  let low = a.x * b.x;
  let part = low + multiply_high(a.x, b.y);
  let sum = part + multiply_high(a.y, b.x);
  return vec2u(multiply_high(a.x, b.x) + select(0u, 1u, part < low) + select(0u, 1u, sum < part), sum);
}

// n * a, modulo 1.
fn times(n: u32, a: vec2u) -> vec2u { return vec2u(n * a.x + multiply_high(n, a.y), n * a.y); }

fn add(a: vec2u, b: vec2u) -> vec2u { return vec2u(a.x + b.x + select(0u, 1u, a.y + b.y < a.y), a.y + b.y); }
fn subtract(a: vec2u, b: vec2u) -> vec2u { return vec2u(a.x - b.x - select(0u, 1u, a.y < b.y), a.y - b.y); }
fn less(a: vec2u, b: vec2u) -> bool { return a.x < b.x || (a.x == b.x && a.y < b.y); }

// How much of a pair's frequency is divided by the factor; the rest stays.
fn divided_share(pair: u32, frequency: vec2u) -> vec2u {
  let slope = vec2u(params.slope_high, params.slope_low);
  switch (params.scaling_mode) {
    case LINEAR: { return ONE; }
    case YARN: {
      if (pair <= params.ramp_first) { return vec2u(0); }
      if (pair >= params.ramp_last) { return ONE; }
      return times(pair - params.ramp_first, slope);
    }
    case LLAMA3: {
      let fast = vec2u(params.fast_high, params.fast_low);
      if (!less(frequency, fast)) { return vec2u(0); }
      if (!less(vec2u(params.slow_high, params.slow_low), frequency)) { return ONE; }
      let below = subtract(fast, frequency);
      return add(times(below.x, slope), multiply(vec2u(below.y, 0), slope));
    }
    default: { return vec2u(0); }  // NTK: all is in the base
  }
}

// Turns per position, as a fraction.
fn frequency_of(pair: u32) -> vec2u {
  var frequency = RADIAN;
  var power = vec2u(params.step_high, params.step_low);  // the step to the 1, 2, 4, …
  for (var n = pair; n != 0; n >>= 1) {
    if ((n & 1) != 0) { frequency = multiply(frequency, power); }
    power = multiply(power, power);
  }
  let loss = multiply(vec2u(params.loss_high, params.loss_low), divided_share(pair, frequency));
  return subtract(frequency, multiply(frequency, loss));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let pairs = params.rotary_dim / 2;
  let heads = params.num_heads << params.fused_qk;
  let teams = (heads + HEADS - 1) / HEADS;
  if (i >= params.seq_len * teams * pairs) { return; }
  let pair = i % pairs;
  let row = i / pairs / teams;
  let first = i / pairs % teams * HEADS;

  let turns = turns_at(params.start_pos + row, frequency_of(pair));
  let point = params.attention_factor * cos_sin(turns);
  let apart = select(pairs, 1, params.interleaved != 0);
  // All reads before the first write.
  let start = (row * heads + first) * params.head_dim + select(pair, 2 * pair, params.interleaved != 0);
  var e = array<vec2f, HEADS>();
  for (var k = 0u; k < HEADS; k++) {
    let at_a = start + k * params.head_dim;
    if (first + k < heads) { e[k] = vec2f(x[at_a], x[at_a + apart]); }
  }
  for (var k = 0u; k < HEADS; k++) {
    let at_a = start + k * params.head_dim;
    if (first + k < heads) {
      x[at_a] = e[k].x * point.x - e[k].y * point.y;
      x[at_a + apart] = e[k].y * point.x + e[k].x * point.y;
    }
  }
}
