// fused_matmul_rmsnorm.wgsl: y = rmsnorm(x W) * norm_weight + residual, row by row, over all N columns.
//
// A workgroup makes a row of y, 32 columns at a time, whose lanes share the K terms; the products stay in workgroup
// memory until the norm is known: N <= 2048. Or, by override: SMALL_N, in a register of the column's own lane;
// MEDIUM_N, in y, N <= 4096; PHASE1_ONLY, y = x W, 32 columns a workgroup, any N, for the rmsnorm kernel to follow.
// Sums in f32. Grid: rows, PHASE1_ONLY rows * ceil(N / 32), folded into (x, y) beyond 65535.
// Limits: N as above, SMALL_N up to WORKGROUP_SIZE; 2^32 - 1 elements of x, of W and of y.
// Replaces main, gemv_rmsnorm_small, gemv_rmsnorm_medium and gemv_rmsnorm_phase1 of the old fused_matmul_rmsnorm.wgsl.

#import lane
#import reduce

override WORKGROUP_SIZE: u32 = 256;    // power of two, 32 or more
override SMALL_N: bool = false;        // N <= WORKGROUP_SIZE
override MEDIUM_N: bool = false;       // N <= 4096
override PHASE1_ONLY: bool = false;    // no norm, no residual

struct Params {
  rows: u32,
  N: u32,
  K: u32,
  eps: f32,
  has_residual: u32,  // 1: residual is added after the norm
  transpose_b: u32,   // 1: W is [N, K]
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;            // [rows, K]
@group(0) @binding(2) var<storage, read> weight: array<f32>;       // [K, N], or [N, K] if transpose_b
@group(0) @binding(3) var<storage, read> norm_weight: array<f32>;  // [N], unread with PHASE1_ONLY
@group(0) @binding(4) var<storage, read> residual: array<f32>;     // [rows, N], unread if has_residual == 0
@group(0) @binding(5) var<storage, read_write> y: array<f32>;      // [rows, N]

const TILE = 32u;  // columns at a time

var<workgroup> products: array<f32, select(select(2048, 1, SMALL_N), 1, MEDIUM_N || PHASE1_ONLY)>;  // [N]
var<workgroup> parts: array<f32, select(WORKGROUP_SIZE, 1, SMALL_N)>;  // [WORKGROUP_SIZE / TILE, TILE]

fn four_products(i: u32, step: u32, at: u32, stride: u32) -> vec4f {
  return vec4f(x[i], x[i + step], x[i + 2 * step], x[i + 3 * step]) *
         vec4f(weight[at], weight[at + stride], weight[at + 2 * stride], weight[at + 3 * stride]);
}

// Terms first, first + step, … of the product's column col.
fn dot_of(row: u32, col: u32, first: u32, step: u32) -> f32 {
  var at = first * params.N + col;
  var stride = step * params.N;
  if (params.transpose_b != 0) {
    at = col * params.K + first;
    stride = step;
  }
  let x_first = row * params.K;
  var k = first;
  // Sixteen terms at a time: loads enough in flight, few as the workgroups are.
  var sums = vec4f();
  for (; k + 15 * step < params.K; k += 16 * step) {
    let i = x_first + k;
    sums += (four_products(i, step, at, stride) + four_products(i + 4 * step, step, at + 4 * stride, stride)) +
            (four_products(i + 8 * step, step, at + 8 * stride, stride) + four_products(i + 12 * step, step, at + 12 * stride, stride));
    at += 16 * stride;
  }
  var sum = dot(sums, vec4f(1));
  for (; k < params.K; k += step) {
    sum += x[x_first + k] * weight[at];
    at += stride;
  }
  return sum;
}

// The product's columns first to first + TILE, each to a lane, the others get none: {product, 1}. Uniform control flow only.
fn tile_product(row: u32, first: u32, at: Lane) -> vec2f {
  // Neighbouring lanes read neighbouring words of W, in either layout.
  let shares = WORKGROUP_SIZE / TILE;
  var col = at.lane % TILE;
  var share = at.lane / TILE;
  if (params.transpose_b != 0) {
    col = at.lane / shares;
    share = at.lane % shares;
  }
  workgroupBarrier();
  parts[share * TILE + col] = 0;
  if (first + col < params.N) { parts[share * TILE + col] = dot_of(row, first + col, share, shares); }
  workgroupBarrier();
  if (at.lane >= TILE || first + at.lane >= params.N) { return vec2f(); }
  var sum = 0.0;
  for (var i = 0u; i < shares; i++) { sum += parts[i * TILE + at.lane]; }
  return vec2f(sum, 1);
}

fn write_normed(row: u32, col: u32, product: f32, scale: f32) {
  var value = product * scale * norm_weight[col];
  if (params.has_residual != 0) { value += residual[row * params.N + col]; }
  y[row * params.N + col] = value;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let index = group.id.y * group.count.x + group.id.x;
  if (PHASE1_ONLY) {
    let tiles = (params.N + TILE - 1) / TILE;
    let row = index / tiles;
    if (row >= params.rows) { return; }  // uniform, as below
    let first = index % tiles * TILE;
    let product = tile_product(row, first, at);
    if (product.y > 0) { y[row * params.N + first + at.lane] = product.x; }
    return;
  }

  let row = index;
  if (row >= params.rows) { return; }
  var own = 0.0;
  var squares = 0.0;
  if (SMALL_N) {
    if (at.lane < params.N) { own = dot_of(row, at.lane, 0, 1); }
    squares = own * own;
  } else {
    for (var first = 0u; first < params.N; first += TILE) {
      let product = tile_product(row, first, at);
      if (product.y > 0) {
        if (MEDIUM_N) { y[row * params.N + first + at.lane] = product.x; } else { products[first + at.lane] = product.x; }
        squares += product.x * product.x;
      }
    }
  }
  let scale = inverseSqrt(workgroup_sum(squares, at) / f32(params.N) + params.eps);
  if (SMALL_N) {
    if (at.lane < params.N) { write_normed(row, at.lane, own, scale); }
  } else if (MEDIUM_N) {
    // Each lane reads back what it wrote itself.
    for (var col = at.lane; at.lane < TILE && col < params.N; col += TILE) { write_normed(row, col, y[row * params.N + col], scale); }
  } else {
    for (var col = at.lane; col < params.N; col += WORKGROUP_SIZE) { write_normed(row, col, products[col], scale); }
  }
}
