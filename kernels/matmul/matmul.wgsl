// matmul.wgsl: C = alpha * A B, f32 sums. B is plain, or a packed weight of any type.
//
// A workgroup makes a tile of C of 64 x 64, 8 x 8 a lane, over 32 columns of A at a time. With MATRIX its subgroups, eight of
// 32 lanes, multiply f16 matrices: 16 TILE_M x 16 LANE_N of C, 32 rows a subgroup or all 16, over 64 columns of A at a time, of which
// the next are on their way meanwhile. With ROW_LANES every lane keeps LANE_N columns of TILE_M rows of C in registers, where
// loads cost more than arithmetic.
// Grid: (rows of C / tile, columns of C / tile, parts of K): workgroups side by side share columns of B. Each part of K makes a C of
// its own, one behind the other, which are to be added: for few rows there are else too few tiles to keep a device reading.
// Limits: USE_VEC4 takes K in eights and B as [N, K]; F16_MODE even offsets and rows of C; B as [K, N] is of a float type and fits one binding,
// others go in parts. MATRIX rounds B to f16; what is beyond f16's range becomes +-65504.
// Replaces main of the old matmul_f32.wgsl and matmul_f16w_f32a.wgsl, main and main_vec4 of matmul_f16.wgsl.

#import lane
#import blocks
#import matrix

override F16_MODE: bool = false;          // A, B and C are f16; WEIGHT_TYPE stays 0
override MIXED_PRECISION: bool = false;   // B is f16; WEIGHT_TYPE stays 0
override USE_VEC4: bool = false;          // rows of A and B, which is [N, K], are read in eights: K is a multiple of 8
override WEIGHT_TYPE: u32 = 0;            // shared/blocks.wgsl; B is packed when it is not 0
override ROW_TILE: u32 = 1;               // of a packed B: kernels/weight.hpp
override ROW_LANES: bool = false;         // lanes own columns of C: for devices whose loads are slow
override USE_SUBGROUPS: bool = false;     // with ROW_LANES: lanes load a part each of what all need; 8 or more a subgroup
override MATRIX: bool = false;            // A is f16, as with F16_MODE, and B is rounded to it: for devices with subgroup matrices
override WORKGROUP_SIZE: u32 = 64;        // 64; with MATRIX 256; with ROW_LANES any
// const TILE_M, LANE_N: u32, of the prelude: the rows and columns of C a lane, with ROW_LANES, or 16 of each a workgroup, with
// MATRIX, and then at least 16 together, or 1 and 8; powers of two up to 8

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
  k_part: u32,       // columns of A that a workgroup multiplies, those from group.id.z * k_part on: K, or a multiple of 64
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4u>;        // [M, a_stride] f32, or f16 with F16_MODE or MATRIX
@group(0) @binding(2) var<storage, read> quants: array<vec4u>;   // B
@group(0) @binding(3) var<storage, read> scales: array<u32>;     // B, packed
@group(0) @binding(4) var<storage, read_write> c: array<u32>;    // [parts, M, c_stride] f32, or f16 with F16_MODE

const TILE = 64u;   // rows and columns of C a workgroup
const CHUNK = 8u;   // blocks of A in workgroup memory at a time, with ROW_LANES
// With MATRIX: subgroups one below the other, matrices of each so, and side by side.
const HIGH = max(1u, TILE_M / 2);
const ROWS = min(2u, TILE_M);
const COLUMNS = max(1u, HIGH * LANE_N / 8);
// 64 columns of A go through the tile in so many parts: as many as let two workgroups run at once on a GPU whose multiprocessors have 48 KB,
// but of the largest tiles, whose sums take all registers.
const PARTS = select(1u, 2u, TILE_M == 4);
const UNITS = 8 / PARTS;   // of a row of the tile: eight f16 each
const PITCH = UNITS + 1;   // vec4u from row to row, with padding that spreads the banks

// Tiles: rows of A and behind them rows of B, of eight units each: four f32, unit u at u ^ (row / 2) to spread the banks, or
// with MATRIX eight f16. ROW_LANES: A as [CHUNK, 8, TILE_M] fours.
var<workgroup> tile: array<vec4u, select(select(16 * TILE, 16 * PITCH * (TILE_M + LANE_N), MATRIX), 8 * CHUNK * TILE_M, ROW_LANES)>;

fn quant(i: u32) -> vec4u { return quants[i]; }
fn scale_word(i: u32) -> u32 { return scales[i]; }
fn weight_type() -> u32 { return select(WEIGHT_TYPE, F16, F16_MODE || MIXED_PRECISION); }

fn half_at(word: u32, i: u32) -> f32 { return half_to_f32(word >> ((i & 1) << 4)); }

fn a_at(i: u32) -> f32 {
  if (F16_MODE) { return half_at(a[i >> 3][(i >> 1) & 3], i); }
  return bitcast<f32>(a[i >> 2][i & 3]);
}

// Four elements of row m of A from column k on; zeros beyond K, and beyond M another row. Loads do not wait for each other
// where no branch is around them.
fn a4(m: u32, k: u32) -> vec4f {
  let row = min(m, params.M - 1) * params.a_stride;
  if (USE_VEC4) {
    let i = row + min(k, params.K - 4);
    if (F16_MODE) {
      let q = a[i >> 3];
      let pair = select(q.xy, q.zw, (i & 4) != 0);
      return select(vec4f(), vec4f(half_at(pair.x, 0), half_at(pair.x, 1), half_at(pair.y, 0), half_at(pair.y, 1)), k < params.K);
    }
    return select(vec4f(), bitcast<vec4f>(a[i >> 2]), k < params.K);
  }
  var e = vec4f();
  for (var j = 0u; j < 4; j++) {
    if (k + j < params.K) { e[j] = a_at(row + k + j); }
  }
  return e;
}

// Eight of them, of f16, as they are.
fn a_eight(m: u32, k: u32) -> vec4u {
  let row = min(m, params.M - 1) * params.a_stride;
  if (USE_VEC4) { return select(vec4u(), a[(row + min(k, params.K - 8)) >> 3], k < params.K); }
  let i = row + k;
  var e = vec4u();
  for (var j = 0u; k + j < min(k + 8, params.K); j++) {
    let bits = (a[(i + j) >> 3][((i + j) >> 1) & 3] >> (((i + j) & 1) << 4)) & 0xffff;
    e[j >> 1] |= bits << ((j & 1) << 4);
  }
  return e;
}

// Where element k of row n of a B of a float type is.
fn b_place(n: u32, k: u32) -> u32 {
  if (ROW_TILE > 1) { return place_of(n, k >> 5, params.row_blocks).block * 32 + (k & 31); }
  if (USE_VEC4) { return n * params.b_stride + k; }
  return select(k * params.b_stride + n, n * params.b_stride + k, params.transpose_b != 0);
}

// An element of a B of a float type.
fn b_at(n: u32, k: u32) -> f32 {
  if (n >= params.N || k >= params.K) { return 0; }
  let i = b_place(n, k);
  if (weight_type() == F32) { return bitcast<f32>(quant(i >> 2)[i & 3]); }
  let word = quant(i >> 3)[(i >> 1) & 3];
  if (weight_type() == F16) { return half_at(word, i); }
  return bitcast<f32>(select(word << 16, word & 0xffff0000, (i & 1) != 0));
}

// Four elements of row n of a B of a float type, from column k on, a multiple of 4; outside as of A.
fn b_four(n: u32, k: u32) -> vec4f {
  if (!USE_VEC4) { return vec4f(b_at(n, k), b_at(n, k + 1), b_at(n, k + 2), b_at(n, k + 3)); }
  let i = b_place(min(n, params.N - 1), min(k, params.K - 4));
  let outside = k >= params.K;
  if (weight_type() == F32) { return select(bitcast<vec4f>(quant(i >> 2)), vec4f(), outside); }
  let q = quant(i >> 3);
  let pair = select(q.xy, q.zw, (i & 4) != 0);
  if (weight_type() == F16) { return select(vec4f(unpack2x16float(pair.x), unpack2x16float(pair.y)), vec4f(), outside); }
  return select(vec4f(bf16_pair(pair.x), bf16_pair(pair.y)), vec4f(), outside);
}

// Eight of them, rounded to f16.
fn b_eight(n: u32, k: u32) -> vec4u {
  if (USE_VEC4 & (weight_type() == F16)) {
    return select(vec4u(), quant(b_place(min(n, params.N - 1), min(k, params.K - 8)) >> 3), k < params.K);
  }
  return vec4u(rounded_halves(b_four(n, k)), rounded_halves(b_four(n, k + 4)));
}

// Where the workgroup's part of K ends.
fn end_of(first: u32) -> u32 { return min(params.K, first + params.k_part); }

fn store(m: u32, n: u32, part: u32, sum: vec4f, count: u32) {
  if (m >= params.M) { return; }
  let i = (part * params.M + m) * params.c_stride + params.c_offset + n;
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

fn place(row: u32, unit: u32) -> u32 { return row * 8 + (unit ^ ((row >> 1) & 7)); }

fn tiled(group: Group, at: Lane) {
  let m0 = group.id.x * TILE;
  let n0 = group.id.y * TILE;
  let lane_m = at.lane / 8;      // and each eighth row from there
  let lane_n = at.lane % 8 * 2;  // and the next, and both of each 16 from there
  var sums = array<array<f32, 8>, 8>();  // [row][column]
  let first = group.id.z * params.k_part;
  for (var k = first; k < end_of(first); k += 32) {
    let row = at.lane / 8;
    let unit = at.lane % 8;
    var e = array<vec4f, 8>();
    var w = array<vec4f, 8>();
    for (var i = 0u; i < 8; i++) { e[i] = a4(m0 + row + 8 * i, k + 4 * unit); }
    if (weight_type() <= BF16) {
      for (var i = 0u; i < 8; i++) { w[i] = b_four(n0 + row + 8 * i, k + 4 * unit); }
    } else {
      w = decode_block(place_of(min(n0 + at.lane, params.N - 1), k / 32, params.row_blocks));
    }
    workgroupBarrier();
    for (var i = 0u; i < 8; i++) {
      tile[place(row + 8 * i, unit)] = bitcast<vec4u>(e[i]);
      if (weight_type() <= BF16) {
        tile[place(TILE + row + 8 * i, unit)] = bitcast<vec4u>(w[i]);
      } else {
        tile[place(TILE + at.lane, i)] = bitcast<vec4u>(w[i]);
      }
    }
    workgroupBarrier();
    for (var four = 0u; four < 8; four++) {
      for (var i = 0u; i < 8; i++) { e[i] = bitcast<vec4f>(tile[place(lane_m + 8 * i, four)]); }
      for (var j = 0u; j < 8; j++) {
        let b = bitcast<vec4f>(tile[place(TILE + lane_n + 16 * (j / 2) + j % 2, four)]);
        for (var i = 0u; i < 8; i++) {
          sums[i][j] = fma(e[i].x, b.x, fma(e[i].y, b.y, fma(e[i].z, b.z, fma(e[i].w, b.w, sums[i][j]))));
        }
      }
    }
  }
  for (var i = 0u; i < 8; i++) {
    for (var j = 0u; j < 8; j += 2) { store(m0 + lane_m + 8 * i, n0 + lane_n + 8 * j, group.id.z, vec4f(sums[i][j], sums[i][j + 1], 0, 0), 2); }
  }
}

// What a lane has read for the next tile of MATRIX: units of A and of B of a float type, else a block of B, which is decoded where it is
// needed: whoever computes with what is being loaded waits for it.
struct Ahead {
  a: array<vec4u, HIGH>,
  b: array<vec4u, LANE_N / 2>,
  block: Raw,
}

// Of the tile's rows of B a lane's, whose block it has.
fn place_in_tile(n0: u32, k: u32, lane: u32) -> Place {
  return place_of(min(n0 + lane / 2 % (16 * LANE_N), params.N - 1), k / 32 + lane % 2, params.row_blocks);
}

// Without a branch around loads, also where a lane needs none: beyond one all that it has begun would be waited for.
fn read_ahead(m0: u32, n0: u32, k: u32, lane: u32) -> Ahead {
  var next = Ahead();
  let unit = k + 8 * (lane % 8);
  for (var i = 0u; i < HIGH; i++) { next.a[i] = a_eight(m0 + lane / 8 + 32 * i, unit); }
  if (weight_type() <= BF16) {
    for (var i = 0u; i < LANE_N / 2; i++) { next.b[i] = b_eight(n0 + lane / 8 + 32 * i, unit); }
  } else {
    next.block = load_raw(place_in_tile(n0, k, lane));
  }
  return next;
}

// Whether a block's scale, and its offset unless that is -bias() times the scale, are f16, whose arithmetic then rounds as f32's would.
fn has_half_scales() -> bool { return has_signed_bytes() | ((weight_type() >= Q4_0) & (weight_type() <= Q5_1)); }
fn has_signed_bytes() -> bool { return (weight_type() == Q8_0) | (weight_type() == IQ4_NL); }
fn has_half_offset() -> bool { return (weight_type() == Q4_1) | (weight_type() == Q5_1); }
fn bias() -> f32 { return select(select(0.0, 16.0, weight_type() == Q5_0), 8.0, weight_type() == Q4_0); }

// The bits of such a scale and offset.
fn half_scales(raw: Raw, at: Place) -> vec2u {
  if (has_half_offset()) { return vec2u(raw.s.x & 0xffff, raw.s.x >> 16); }
  return vec2u((raw.s.x >> ((at.block & 1) << 4)) & 0xffff, 0);
}

// Bytes become f16 by two, two places apart, since that takes least. So each four weights of such a block, and with them the four columns of
// A, lie in the tile in the order 0, 2, 1, 3.
fn in_order(e: vec4u) -> vec4u {
  if (!has_half_scales()) { return e; }
  let firsts = (e.xz & vec2u(0xffff)) | (e.yw << vec2u(16));
  let seconds = (e.xz >> vec2u(16)) | (e.yw & vec2u(0xffff0000));
  return vec4u(firsts.x, seconds.x, firsts.y, seconds.y);
}

// 0, which no compiler knows: M is less.
fn unknown_zero() -> u32 { return select(0u, 1u, params.M == 0xffffffffu); }

// Four bytes of a block with half_scales() as f16; none is beyond its range.
fn halves_of_bytes(bytes: u32, scales: vec2u) -> vec2u {
  let mask = 0x00ff00ffu ^ unknown_zero();
  if (has_signed_bytes()) { return scaled_halves(bytes ^ 0x80808080u, mask, 128, scales); }
  return scaled_halves(bytes, mask, bias(), scales);
}

// Weights 4 j to 4 j + 3 of a block, as they lie in the tile, and from there eight as f16, clamped to its range or known to be within it.
fn block_four(block: Block, j: u32) -> vec4f {
  let four = block.scale[j / 4] * vec4f(unpack4xI8(block.q[j])) + block.offset[j / 4];
  if (has_half_scales()) { return four.xzyw; }
  return four;
}
fn clamped_eight(block: Block, j: u32) -> vec4u { return vec4u(rounded_halves(block_four(block, j)), rounded_halves(block_four(block, j + 1))); }
fn block_eight(block: Block, j: u32, scales: vec2u) -> vec4u {
  if (has_half_scales()) { return vec4u(halves_of_bytes(block.q[j], scales), halves_of_bytes(block.q[j + 1], scales)); }
  return vec4u(halves(block_four(block, j)), halves(block_four(block, j + 1)));
}

// A block as four units of the tile, not clamped, and whether it may hold what is beyond f16's range, as few do.
struct Decoded { units: array<vec4u, 4>, beyond: bool }
fn decoded(raw: Raw, at: Place) -> Decoded {
  let block = decode_raw(raw, at);
  let scales = half_scales(raw, at);
  var beyond = false;
  if (has_half_scales()) {
    // Scales up to 224 make 28,672 of the largest byte, to which offsets up to 28,672 may come.
    beyond = any((scales & vec2u(0x7fff)) > vec2u(0x5b00, 0x7700));
  } else {
    beyond = !(128 * max(abs(block.scale.x), abs(block.scale.y)) + max(abs(block.offset.x), abs(block.offset.y)) < 65504);
  }
  if ((weight_type() == Q4_0) | (weight_type() == Q4_1)) {
    let mask = 0x000f000fu ^ unknown_zero();
    let a = scaled_nibbles(raw.q.x, mask, bias(), scales);
    let b = scaled_nibbles(raw.q.y, mask, bias(), scales);
    let c = scaled_nibbles(raw.q.z, mask, bias(), scales);
    let d = scaled_nibbles(raw.q.w, mask, bias(), scales);
    return Decoded(array<vec4u, 4>(vec4u(a[0], b[0]), vec4u(c[0], d[0]), vec4u(a[1], b[1]), vec4u(c[1], d[1])), beyond);
  }
  return Decoded(array<vec4u, 4>(block_eight(block, 0, scales), block_eight(block, 2, scales), block_eight(block, 4, scales),
                                 block_eight(block, 6, scales)), beyond);
}

// Puts a part of what was read into the tile.
fn fill_tile(next: ptr<function, Ahead>, weights: ptr<function, Decoded>, at: Place, part: u32, lane: u32) {
  if ((PARTS == 1) | (lane / 4 % 2 == part)) {
    let unit = lane % UNITS;
    if ((TILE_M > 1) | (lane < 128)) {
      for (var i = 0u; i < HIGH; i++) { tile[PITCH * (lane / 8 + 32 * i) + unit] = in_order((*next).a[i]); }
    }
    if (weight_type() <= BF16) {
      for (var i = 0u; i < LANE_N / 2; i++) { tile[PITCH * (16 * TILE_M + lane / 8 + 32 * i) + unit] = (*next).b[i]; }
    }
  }
  if ((weight_type() > BF16) & (lane < 32 * LANE_N) & ((PARTS == 1) | (lane % 2 == part))) {
    let to = PITCH * (16 * TILE_M + lane / 2) + select(lane % 2 * 4, 0, PARTS > 1);
    tile[to] = (*weights).units[0];
    tile[to + 1] = (*weights).units[1];
    tile[to + 2] = (*weights).units[2];
    tile[to + 3] = (*weights).units[3];
    if ((*weights).beyond) {
      let block = decode_raw((*next).block, at);
      for (var i = 0u; i < 4; i++) { tile[to + i] = clamped_eight(block, 2 * i); }
    }
  }
}

// Puts what was read ahead, or a part of it, in the place of what all have multiplied. Uniform control flow only.
fn replace_tile(next: ptr<function, Ahead>, weights: ptr<function, Decoded>, place: Place, part: u32, at: Lane) {
  workgroupBarrier();
  if ((part == 0) & (weight_type() > BF16) & (at.lane < 32 * LANE_N)) { *weights = decoded((*next).block, place); }
  fill_tile(next, weights, place, part, at.lane);
  workgroupBarrier();
}

// Sums of ROWS x COLUMNS matrices. Each has a name: drivers put what a loop indexes into memory.
struct Products { s00: Sums, s01: Sums, s02: Sums, s03: Sums, s10: Sums, s11: Sums, s12: Sums, s13: Sums }

// With those of the tile, or of a part of it, added.
fn multiplied(before: Products, row: u32, column: u32) -> Products {
  var s = before;
  for (var unit = 0u; unit < UNITS; unit += 2) {
    let base = PITCH * (16 * TILE_M + column) + unit;
    let left0 = load_left(PITCH * row + unit, PITCH);
    let left1 = load_left(PITCH * (row + 16 * (ROWS - 1)) + unit, PITCH);
    let right0 = load_right_columns(base, PITCH);
    s.s00 = multiply_add(left0, right0, s.s00);
    if (ROWS > 1) { s.s10 = multiply_add(left1, right0, s.s10); }
    if (COLUMNS > 1) {
      let right1 = load_right_columns(base + 16 * PITCH, PITCH);
      s.s01 = multiply_add(left0, right1, s.s01);
      if (ROWS > 1) { s.s11 = multiply_add(left1, right1, s.s11); }
    }
    if (COLUMNS > 2) {
      let right2 = load_right_columns(base + 32 * PITCH, PITCH);
      s.s02 = multiply_add(left0, right2, s.s02);
      if (ROWS > 1) { s.s12 = multiply_add(left1, right2, s.s12); }
      let right3 = load_right_columns(base + 48 * PITCH, PITCH);
      s.s03 = multiply_add(left0, right3, s.s03);
      if (ROWS > 1) { s.s13 = multiply_add(left1, right3, s.s13); }
    }
  }
  return s;
}

// What is on its way must not be copied, which would wait for it: so a tile in parts is loaded and put down in the same turn of the loop, and of
// whole ones two are under way, each in registers of its own.
fn matrices(group: Group, at: Lane) {
  let m0 = group.id.x * 16 * TILE_M;
  let n0 = group.id.y * 16 * LANE_N;
  // The subgroup's part of the tile.
  let own = matrix_subgroup(at);
  let row = own % HIGH * 32;
  let column = own / HIGH * 16 * COLUMNS;
  var s = Products();
  let first = group.id.z * params.k_part;
  let end = end_of(first);
  let last = first + (end - first - 1) / 64 * 64;
  var next = read_ahead(m0, n0, first, at.lane);
  var weights = Decoded();
  if (PARTS > 1) {
    replace_tile(&next, &weights, place_in_tile(n0, first, at.lane), 0, at);
    for (var k = first; k < end; k += 64) {
      let following = min(k + 64, last);
      let after = read_ahead(m0, n0, following, at.lane);
      s = multiplied(s, row, column);
      replace_tile(&next, &weights, place_in_tile(n0, k, at.lane), 1, at);
      s = multiplied(s, row, column);
      next = after;
      replace_tile(&next, &weights, place_in_tile(n0, following, at.lane), 0, at);
    }
  } else {
    var after = read_ahead(m0, n0, min(first + 64, last), at.lane);
    for (var k = first; k < end; k += 128) {
      replace_tile(&next, &weights, place_in_tile(n0, k, at.lane), 0, at);
      next = read_ahead(m0, n0, min(k + 128, last), at.lane);
      s = multiplied(s, row, column);
      if (k + 64 >= end) { break; }
      replace_tile(&after, &weights, place_in_tile(n0, k + 64, at.lane), 0, at);
      after = read_ahead(m0, n0, min(k + 192, last), at.lane);
      s = multiplied(s, row, column);
    }
  }
  let m = m0 + row;
  let n = n0 + column;
  let part = group.id.z;
  store_matrix(s.s00, m, n, part, at);
  if (COLUMNS > 1) { store_matrix(s.s01, m, n + 16, part, at); }
  if (COLUMNS > 2) {
    store_matrix(s.s02, m, n + 32, part, at);
    store_matrix(s.s03, m, n + 48, part, at);
  }
  if (ROWS > 1) {
    store_matrix(s.s10, m + 16, n, part, at);
    if (COLUMNS > 1) { store_matrix(s.s11, m + 16, n + 16, part, at); }
    if (COLUMNS > 2) {
      store_matrix(s.s12, m + 16, n + 32, part, at);
      store_matrix(s.s13, m + 16, n + 48, part, at);
    }
  }
}

// A matrix of C, by way of the tile, where lanes can check what is inside.
fn store_matrix(sums: Sums, m: u32, n: u32, part: u32, at: Lane) {
  let own = 64 * matrix_subgroup(at);
  workgroupBarrier();
  store_sums(own, 4, sums);
  workgroupBarrier();
  for (var pair = matrix_lane(at); pair < 128; pair += 32) {
    let four = bitcast<vec4f>(tile[own + pair / 2]);
    store(m + pair / 8, n + pair % 8 * 2, part, vec4f(select(four.xy, four.zw, pair % 2 != 0), 0, 0), 2);
  }
}

// Stages blocks first to first + CHUNK of the rows m0 to m0 + TILE_M of A.
fn stage_rows(m0: u32, first: u32, at: Lane) {
  for (var i = at.lane; i < TILE_M * CHUNK * 2; i += WORKGROUP_SIZE) {
    let row = i % TILE_M;
    let half = i / TILE_M;  // of 16 columns
    let k = 32 * first + 16 * half;
    let to = half * 4 * TILE_M + row;
    tile[to] = bitcast<vec4u>(a4(m0 + row, k));
    tile[to + TILE_M] = bitcast<vec4u>(a4(m0 + row, k + 4));
    tile[to + 2 * TILE_M] = bitcast<vec4u>(a4(m0 + row, k + 8));
    tile[to + 3 * TILE_M] = bitcast<vec4u>(a4(m0 + row, k + 12));
  }
}

// What the tile has from `first` on of the TILE_M rows of A.
fn of_rows(first: u32, at: Lane) -> array<vec4f, 8> {
  if (USE_SUBGROUPS) { return first_lanes_vec4f(bitcast<vec4f>(tile[first + sublane(at) % TILE_M])); }
  var e = array<vec4f, 8>();
  for (var m = 0u; m < TILE_M; m++) { e[m] = bitcast<vec4f>(tile[first + m]); }
  return e;
}
// Four columns j of block s.
fn staged(s: u32, j: u32, at: Lane) -> array<vec4f, 8> { return of_rows((s * 8 + j) * TILE_M, at); }

fn row_lanes(group: Group, at: Lane) {
  let m0 = group.id.x * TILE_M;
  let n0 = (group.id.y * WORKGROUP_SIZE + at.lane) * LANE_N;
  let start = group.id.z * params.k_part;
  let blocks = (end_of(start) + 31) / 32;
  var sums = array<array<f32, LANE_N>, TILE_M>();
  for (var first = start / 32; first < blocks; first += CHUNK) {
    workgroupBarrier();
    stage_rows(m0, first, at);
    workgroupBarrier();
    for (var s = 0u; s < min(CHUNK, blocks - first); s++) {
      if (weight_type() <= BF16) {
        for (var j = 0u; j < 8; j++) {
          var w = array<vec4f, LANE_N>();
          for (var r = 0u; r < LANE_N; r++) { w[r] = b_four(n0 + r, 32 * (first + s) + 4 * j); }
          let e = staged(s, j, at);
          for (var m = 0u; m < TILE_M; m++) {
            for (var r = 0u; r < LANE_N; r++) { sums[m][r] += dot(w[r], e[m]); }
          }
        }
        continue;
      }
      var w = array<Block, LANE_N>();
      for (var r = 0u; r < LANE_N; r++) { w[r] = load_block(place_of(min(n0 + r, params.N - 1), first + s, params.row_blocks)); }
      for (var j = 0u; j < 8; j++) {
        var f = array<vec4f, LANE_N>();
        for (var r = 0u; r < LANE_N; r++) { f[r] = w[r].scale[j / 4] * vec4f(unpack4xI8(w[r].q[j])) + w[r].offset[j / 4]; }
        let e = staged(s, j, at);
        for (var m = 0u; m < TILE_M; m++) {
          for (var r = 0u; r < LANE_N; r++) { sums[m][r] += dot(f[r], e[m]); }
        }
      }
    }
  }
  for (var m = 0u; m < TILE_M; m++) {
    for (var r = 0u; r < LANE_N; r += 2) { store(m0 + m, n0 + r, group.id.z, vec4f(sums[m][r], sums[m][r + 1], 0, 0), 2); }
  }
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  if (ROW_LANES) {
    row_lanes(group, at);
  } else if (MATRIX) {
    matrices(group, at);
  } else {
    tiled(group, at);
  }
}
