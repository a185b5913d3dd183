// matmul.wgsl: C = alpha * A B, f32 sums. B is plain, or a packed weight of any type.
//
// Tiles of 64 x 64 of C a workgroup of 256 lanes, 4 x 4 a lane, over 32 columns of A at a time; or, with ROW_LANES, every
// lane keeps LANE_N columns of TILE_M rows of C in registers, where loads cost more than arithmetic.
// Grid: (columns of C / tile, rows of C / tile, 1).
// Limits: USE_VEC4 takes K in fours; F16_MODE even offsets and rows of C; B as [K, N] is of a float type and fits one binding,
// others go in parts.
// Replaces main of the old matmul_f32.wgsl and matmul_f16w_f32a.wgsl, main and main_vec4 of matmul_f16.wgsl.

#import lane
#import blocks
#import int8

override F16_MODE: bool = false;          // A, B and C are f16; WEIGHT_TYPE stays 0
override MIXED_PRECISION: bool = false;   // B is f16; WEIGHT_TYPE stays 0
override USE_VEC4: bool = false;          // A is read in fours: a_stride and K multiples of 4
override WEIGHT_TYPE: u32 = 0;            // shared/blocks.wgsl; B is packed when it is not 0
override ROW_TILE: u32 = 1;               // of a packed B: kernels/weight.hpp
override ROW_LANES: bool = false;         // lanes own columns of C: for devices whose loads are slow
override INT8_ACTIVATIONS: bool = false;  // with ROW_LANES: A is rounded to int8, 16 elements a scale; integer weights only
override WORKGROUP_SIZE: u32 = 256;       // 256 without ROW_LANES
// const TILE_M, LANE_N: u32, of the prelude: the rows and columns of C a lane, with ROW_LANES; at most 16, and even

struct Params {
  M: u32,
  N: u32,           // columns of C: of B what one binding holds
  K: u32,
  alpha: f32,
  transpose_b: u32,  // 1: B is [N, K]; 0: [K, N], of a float type
  row_blocks: u32,   // blocks a row of a packed B
  b_stride: u32,     // elements from row to row of B, float types
  a_stride: u32,     // elements from row to row of A
  c_stride: u32,     // elements from row to row of C
  c_offset: u32,     // where a row's first result goes; with F16_MODE both are even
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4u>;        // [M, a_stride] f32, or f16 with F16_MODE
@group(0) @binding(2) var<storage, read> quants: array<vec4u>;   // B
@group(0) @binding(3) var<storage, read> scales: array<u32>;     // B, packed
@group(0) @binding(4) var<storage, read_write> c: array<u32>;    // [M, c_stride] f32, or f16 with F16_MODE

const TILE = 64u;   // rows and columns of C a workgroup
const CHUNK = 8u;   // blocks of A in workgroup memory at a time, with ROW_LANES

// Tiles: A as [64, 8] fours along K, then B the same, each four at k ^ (row / 4) to spread the banks. ROW_LANES: A as
// [CHUNK, 8, TILE_M] fours, or as [CHUNK, 2, TILE_M] 16 int8 and behind them {scale, scale * their sum}.
var<workgroup> tile: array<vec4u, 1024>;

fn weight_type() -> u32 { return select(WEIGHT_TYPE, F16, F16_MODE || MIXED_PRECISION); }

fn half_at(word: u32, i: u32) -> f32 { return half_to_f32(word >> ((i & 1) << 4)); }

fn a_at(i: u32) -> f32 {
  if (F16_MODE) { return half_at(a[i >> 3][(i >> 1) & 3], i); }
  return bitcast<f32>(a[i >> 2][i & 3]);
}

// Four elements of row m of A from column k on; zeros outside.
fn a4(m: u32, k: u32) -> vec4f {
  if (m >= params.M || k >= params.K) { return vec4f(); }
  let i = m * params.a_stride + k;
  if (USE_VEC4) {
    if (F16_MODE) {
      let q = a[i >> 3];
      let pair = select(q.xy, q.zw, (i & 4) != 0);
      return vec4f(half_at(pair.x, 0), half_at(pair.x, 1), half_at(pair.y, 0), half_at(pair.y, 1));
    }
    return bitcast<vec4f>(a[i >> 2]);
  }
  var e = vec4f(a_at(i), 0, 0, 0);
  if (k + 1 < params.K) { e.y = a_at(i + 1); }
  if (k + 2 < params.K) { e.z = a_at(i + 2); }
  if (k + 3 < params.K) { e.w = a_at(i + 3); }
  return e;
}

// An element of a B of a float type.
fn b_at(n: u32, k: u32) -> f32 {
  if (n >= params.N || k >= params.K) { return 0; }
  var i = select(k * params.b_stride + n, n * params.b_stride + k, params.transpose_b != 0);
  if (ROW_TILE > 1) { i = place_of(n, k >> 5, params.row_blocks).block * 32 + (k & 31); }
  if (weight_type() == F32) { return bitcast<f32>(quants[i >> 2][i & 3]); }
  let word = quants[i >> 3][(i >> 1) & 3];
  if (weight_type() == F16) { return half_at(word, i); }
  return bitcast<f32>(select(word << 16, word & 0xffff0000, (i & 1) != 0));
}

fn b_four(n: u32, k: u32) -> vec4f { return vec4f(b_at(n, k), b_at(n, k + 1), b_at(n, k + 2), b_at(n, k + 3)); }

// The 32 elements of column n of C's operand B from 32 block on.
fn b_block(n: u32, block: u32) -> array<vec4f, 8> {
  if (weight_type() > BF16) { return decode_block(place_of(min(n, params.N - 1), block, params.row_blocks)); }
  var w = array<vec4f, 8>();
  for (var j = 0u; j < 8; j++) { w[j] = b_four(n, 32 * block + 4 * j); }
  return w;
}

fn store(m: u32, n: u32, sum: vec4f, count: u32) {
  if (m >= params.M) { return; }
  let i = m * params.c_stride + params.c_offset + n;
  if (F16_MODE) {
    let v = clamp(params.alpha * sum, vec4f(-65504), vec4f(65504));
    for (var j = 0u; j < count; j += 2) {
      if (n + j < params.N) { c[(i + j) >> 1] = pack2x16float(vec2f(v[j], select(0, v[j + 1], n + j + 1 < params.N))); }
    }
    return;
  }
  for (var j = 0u; j < count; j++) {
    if (n + j < params.N) { c[i + j] = bitcast<u32>(params.alpha * sum[j]); }
  }
}

fn place(row: u32, k4: u32) -> u32 { return row * 8 + (k4 ^ ((row >> 2) & 7)); }

fn tiled(group: Group, at: Lane) {
  let m0 = group.id.y * TILE;
  let n0 = group.id.x * TILE;
  let lane_m = at.lane / 16 * 4;
  let lane_n = at.lane % 16 * 4;
  var sums = array<vec4f, 4>();  // [row] four columns
  for (var block = 0u; block < (params.K + 31) / 32; block++) {
    workgroupBarrier();
    if (at.lane < TILE) {
      var w = b_block(n0 + at.lane, block);
      for (var j = 0u; j < 8; j++) { tile[512 + place(at.lane, j)] = bitcast<vec4u>(w[j]); }
    } else {
      for (var i = at.lane - TILE; i < 512; i += WORKGROUP_SIZE - TILE) {
        tile[place(i / 8, i % 8)] = bitcast<vec4u>(a4(m0 + i / 8, 32 * block + 4 * (i % 8)));
      }
    }
    workgroupBarrier();
    for (var k4 = 0u; k4 < 8; k4++) {
      let b0 = bitcast<vec4f>(tile[512 + place(lane_n, k4)]);
      let b1 = bitcast<vec4f>(tile[512 + place(lane_n + 1, k4)]);
      let b2 = bitcast<vec4f>(tile[512 + place(lane_n + 2, k4)]);
      let b3 = bitcast<vec4f>(tile[512 + place(lane_n + 3, k4)]);
      for (var i = 0u; i < 4; i++) {
        let e = bitcast<vec4f>(tile[place(lane_m + i, k4)]);
        sums[i] += vec4f(dot(e, b0), dot(e, b1), dot(e, b2), dot(e, b3));
      }
    }
  }
  for (var i = 0u; i < 4; i++) { store(m0 + lane_m + i, n0 + lane_n, sums[i], 4); }
}

// Stages blocks first to first + CHUNK of the rows m0 to m0 + TILE_M of A.
fn stage_rows(m0: u32, first: u32, at: Lane) {
  for (var i = at.lane; i < TILE_M * CHUNK * 2; i += WORKGROUP_SIZE) {
    let row = i % TILE_M;
    let half = i / TILE_M;  // of 16 columns
    let k = 32 * first + 16 * half;
    var e = array<vec4f, 4>();
    for (var j = 0u; j < 4; j++) { e[j] = a4(m0 + row, k + 4 * j); }
    if (INT8_ACTIVATIONS) {
      let rounded = to_int8(e);
      tile[i] = rounded.q;
      tile[TILE_M * CHUNK * 2 + i] = vec4u(bitcast<vec2u>(rounded.scale), 0, 0);
    } else {
      for (var j = 0u; j < 4; j++) { tile[(half * 4 + j) * TILE_M + row] = bitcast<vec4u>(e[j]); }
    }
  }
}

// The tile's four columns j of block s of row m of A.
fn staged(s: u32, j: u32, m: u32) -> vec4f { return bitcast<vec4f>(tile[(s * 8 + j) * TILE_M + m]); }

fn row_lanes(group: Group, at: Lane) {
  let m0 = group.id.y * TILE_M;
  let n0 = (group.id.x * WORKGROUP_SIZE + at.lane) * LANE_N;
  let blocks = (params.K + 31) / 32;
  var sums = array<array<f32, LANE_N>, TILE_M>();
  for (var first = 0u; first < blocks; first += CHUNK) {
    workgroupBarrier();
    stage_rows(m0, first, at);
    workgroupBarrier();
    for (var s = 0u; s < min(CHUNK, blocks - first); s++) {
      if (weight_type() <= BF16) {
        for (var j = 0u; j < 8; j++) {
          var w = array<vec4f, LANE_N>();
          for (var r = 0u; r < LANE_N; r++) { w[r] = b_four(n0 + r, 32 * (first + s) + 4 * j); }
          for (var m = 0u; m < TILE_M; m++) {
            let e = staged(s, j, m);
            for (var r = 0u; r < LANE_N; r++) { sums[m][r] += dot(w[r], e); }
          }
        }
        continue;
      }
      var w = array<Block, LANE_N>();
      for (var r = 0u; r < LANE_N; r++) { w[r] = load_block(place_of(min(n0 + r, params.N - 1), first + s, params.row_blocks)); }
      if (INT8_ACTIVATIONS) {
        for (var m = 0u; m < TILE_M; m++) {
          let low = tile[s * 2 * TILE_M + m];
          let high = tile[(s * 2 + 1) * TILE_M + m];
          let s0 = bitcast<vec2f>(tile[TILE_M * CHUNK * 2 + s * 2 * TILE_M + m].xy);
          let s1 = bitcast<vec2f>(tile[TILE_M * CHUNK * 2 + (s * 2 + 1) * TILE_M + m].xy);
          for (var r = 0u; r < LANE_N; r++) {
            let d0 = dot4I8Packed(w[r].q[0], low.x) + dot4I8Packed(w[r].q[1], low.y) + dot4I8Packed(w[r].q[2], low.z) + dot4I8Packed(w[r].q[3], low.w);
            let d1 = dot4I8Packed(w[r].q[4], high.x) + dot4I8Packed(w[r].q[5], high.y) + dot4I8Packed(w[r].q[6], high.z) + dot4I8Packed(w[r].q[7], high.w);
            sums[m][r] += w[r].scale.x * s0.x * f32(d0) + w[r].offset.x * s0.y + w[r].scale.y * s1.x * f32(d1) + w[r].offset.y * s1.y;
          }
        }
        continue;
      }
      for (var j = 0u; j < 8; j++) {
        var f = array<vec4f, LANE_N>();
        for (var r = 0u; r < LANE_N; r++) { f[r] = w[r].scale[j / 4] * vec4f(unpack4xI8(w[r].q[j])) + w[r].offset[j / 4]; }
        for (var m = 0u; m < TILE_M; m++) {
          let e = staged(s, j, m);
          for (var r = 0u; r < LANE_N; r++) { sums[m][r] += dot(f[r], e); }
        }
      }
    }
  }
  for (var m = 0u; m < TILE_M; m++) {
    for (var r = 0u; r < LANE_N; r += 2) { store(m0 + m, n0 + r, vec4f(sums[m][r], sums[m][r + 1], 0, 0), 2); }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  if (ROW_LANES) { row_lanes(group, at); } else { tiled(group, at); }
}
