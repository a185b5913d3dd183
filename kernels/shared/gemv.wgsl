// gemv.wgsl: dot products of packed weight rows with VECTORS vectors that are staged, chunk by chunk, in
// workgroup memory. The body of matmul_gemv, matmul_gemv_residual and fused_ffn.
//
// Needs: #import lane, known_lanes, reduce, left_sums, blocks, int16; fn x4(i) -> vec4f, elements 4 i to 4 i + 3 of the vectors; override WORKGROUP_SIZE, CHUNK, SPLIT, UNROLL,
// NORM_INPUT (or a const), INT16_ACTIVATIONS, USE_SUBGROUPS; const ROWS, VECTORS; fn norm4(i) -> vec4f, the norm's weights 4 i to 4 i + 3;
// PARTS (or a const) and fn parts_half(i) -> Sixteen, elements 16 i to 16 i + 15 of vectors that lie in parts, x4 then unused;
// fn team_lanes() -> u32, of overrides alone: the lanes that share a row, 0 for those of SPLIT subgroups.
//
// A team of lanes owns ROWS rows, whose weights share what is read of x; its lane t takes blocks t, t + lanes, … of them
// or UNROLL pairs of blocks at once, or, of a float type, 16 bytes t, t + lanes, … and UNROLL of these at once, so that
// neighbouring lanes read neighbouring words of W. The vector is stored so that they do of it, too. With USE_SUBGROUPS and a lane a team, a subgroup's lanes
// want the same block of the vector at once: each reads a part and passes it on, of x itself unless there are INT16_ACTIVATIONS.
// Nothing is staged then: lavapipe keeps what it loads in registers until a kernel's first barrier, and in memory from there on.
//
// Each weight is read once for VECTORS vectors, the first of which waits in registers while the others are read for each row: all of them
// or the weights of all rows, in arrays, are slower on NVIDIA. A vector's sums are the same, and in the same order, whatever stands beside it.
struct Vectors {
  cols: u32,        // of W, and so the elements of each
  row_blocks: u32,  // of W
  start: u32,       // the first one's first element, a multiple of 4
  stride: u32,      // elements from one to the next, a multiple of 4
  count: u32,       // that there are, at least 1: in place of others the last is taken, for the caller to drop
  eps: f32,         // of the norm
}

const SUMS = ROWS * VECTORS;  // of a team: of vector c and row r at c * ROWS + r

var<workgroup> staged: array<vec4f, select(1, 8 * CHUNK * VECTORS, !INT16_ACTIVATIONS)>;       // [VECTORS, 8 * CHUNK] four elements, at staged_place
var<workgroup> staged_sum: array<f32, select(1, 2 * CHUNK * VECTORS, !INT16_ACTIVATIONS)>;    // [VECTORS, 2, CHUNK] of 16 elements each
var<workgroup> staged_high: array<vec4u, select(1, 2 * CHUNK * VECTORS, INT16_ACTIVATIONS)>;   // [VECTORS, 2, CHUNK] of Int16
var<workgroup> staged_low: array<vec4u, select(1, 2 * CHUNK * VECTORS, INT16_ACTIVATIONS)>;    // [VECTORS, 2, CHUNK] of Int16
var<workgroup> staged_scale: array<vec2f, select(1, 2 * CHUNK * VECTORS, INT16_ACTIVATIONS)>;  // [VECTORS, 2, CHUNK] of Int16
var<workgroup> team_sums: array<f32, WORKGROUP_SIZE * select(1, max(1, SUMS / 4), SPLIT > 1)>;   // a subgroup has 4 lanes at least

// Where a vector begins, and four elements from col on, with zeros for those beyond its end. Without a branch, so that loads overlap.
fn start_of(v: Vectors, c: u32) -> u32 {
  if (VECTORS == 1) { return v.start; }
  return v.start + min(c, v.count - 1) * v.stride;
}
fn element4(v: Vectors, c: u32, col: u32) -> vec4f {
  let e = x4((start_of(v, c) + min(col, v.cols - 1)) / 4);
  return select(vec4f(), e, vec4u(col, col + 1, col + 2, col + 3) < vec4u(v.cols));
}
fn norm_at(v: Vectors, col: u32) -> vec4f { return norm4(min(col, v.cols - 1) / 4); }

// Whether a lane is a team, and the lanes of a subgroup read the vector between them: what is staged, or x itself.
fn lanes_share() -> bool { return USE_SUBGROUPS & (team_lanes() == 1); }
fn in_place() -> bool { return lanes_share() & !INT16_ACTIVATIONS; }

// Whether lanes share the blocks of a row 16 bytes by 16 bytes, and how many of these a block of a float type has.
fn in_pieces() -> bool { return (weight_type() <= BF16) & (team_lanes() != 1); }
fn block_pieces() -> u32 { return select(4u, 8u, weight_type() == F32); }

// Where a block's parts are among CHUNK of them: of pairs all the first ones, then all the second ones.
fn staged_block(s: u32) -> u32 { return (s & 1) * (CHUNK / 2) + (s >> 1); }

// Where the i-th four of the staged elements are.
fn staged_place(i: u32) -> u32 {
  if (!in_pieces()) { return (i & 7) * CHUNK + staged_block(i >> 3); }
  if (weight_type() == F32) { return i; }
  return (i & 1) * 4 * CHUNK + (i >> 1);
}

// Half a block of a vector, as it is and times the norm's weights.
fn load_half(v: Vectors, c: u32, half: u32) -> Sixteen {
  if (PARTS) { return parts_half((v.start + min(c, v.count - 1) * v.stride) / 16 + half); }
  let col = 16 * half;
  if (weight_type() > BF16) {  // all sixteen are within, or, in a row's last block, none
    let i = (start_of(v, c) + min(col, v.cols - 16)) / 4;
    let within = col < v.cols;
    return Sixteen(select(vec4f(), x4(i), within), select(vec4f(), x4(i + 1), within), select(vec4f(), x4(i + 2), within),
                   select(vec4f(), x4(i + 3), within));
  }
  return Sixteen(element4(v, c, col), element4(v, c, col + 4), element4(v, c, col + 8), element4(v, c, col + 12));
}
fn normed_half(v: Vectors, half: u32, e: Sixteen) -> Sixteen {
  if (!NORM_INPUT) { return e; }
  let col = 16 * half;
  if (weight_type() > BF16) {
    let i = min(col, v.cols - 16) / 4;
    return Sixteen(e.a * norm4(i), e.b * norm4(i + 1), e.c * norm4(i + 2), e.d * norm4(i + 3));
  }
  return Sixteen(e.a * norm_at(v, col), e.b * norm_at(v, col + 4), e.c * norm_at(v, col + 8), e.d * norm_at(v, col + 12));
}
// Stages it, of vector c the half-th of the present ones.
fn stage_half(c: u32, half: u32, e: Sixteen) {
  let place = c * 2 * CHUNK + (half & 1) * CHUNK + staged_block(half >> 1);
  if (INT16_ACTIVATIONS) {
    let rounded = to_int16(e);
    staged_high[place] = rounded.high;
    staged_low[place] = rounded.low;
    staged_scale[place] = rounded.scale;
  } else {
    let first = c * 8 * CHUNK;
    staged[first + staged_place(4 * half)] = e.a;
    staged[first + staged_place(4 * half + 1)] = e.b;
    staged[first + staged_place(4 * half + 2)] = e.c;
    staged[first + staged_place(4 * half + 3)] = e.d;
    let sum = e.a + e.b + e.c + e.d;
    staged_sum[place] = sum.x + sum.y + sum.z + sum.w;
  }
}

// Of the i-th of VECTORS * count things, count of each vector, whose it is.
fn vector_of(i: u32, count: u32) -> u32 {
  if (VECTORS == 1) { return 0; }
  return i / count;
}

// Stages blocks first to first + CHUNK of the vectors. Barriers on both sides are the caller's.
fn stage(v: Vectors, first: u32, at: Lane) {
  let halves = 2 * min(CHUNK, v.row_blocks - first);
  for (var i = at.lane; i < VECTORS * halves; i += WORKGROUP_SIZE) {
    let c = vector_of(i, halves);
    let half = i - c * halves;
    stage_half(c, half, normed_half(v, 2 * first + half, load_half(v, c, 2 * first + half)));
  }
}

// Before gemv: stages vectors that fit. What each one's sums are to be multiplied with: with NORM_INPUT rows meet the vector times the
// norm's weights alone, since 1 / sqrt(mean(x^2) + eps) may come later than these. Uniform control flow only.
fn prepare(v: Vectors, at: Lane) -> array<f32, VECTORS> {
  let fits = v.row_blocks <= CHUNK;
  var squares = array<f32, VECTORS>();
  if (!NORM_INPUT) {
    if (in_place()) { return ones(); }
    if (fits) { stage(v, 0, at); }
    workgroupBarrier();
    return ones();
  }
  if (in_place()) {
    for (var col = 4 * sublane(at); col < v.cols; col += 4 * subgroup_size(at)) {
      for (var c = 0u; c < VECTORS; c++) {
        let e = element4(v, c, col);
        squares[c] += dot(e, e);
      }
    }
    for (var c = 0u; c < VECTORS; c++) { squares[c] = inverseSqrt(subgroup_sum_f32(squares[c]) / f32(v.cols) + v.eps); }
    return squares;
  }
  let halves = 2 * v.row_blocks;
  for (var i = at.lane; i < VECTORS * halves; i += WORKGROUP_SIZE) {
    let owner = vector_of(i, halves);
    let half = i - owner * halves;
    let e = load_half(v, owner, half);
    let sum = dot(e.a, e.a) + dot(e.b, e.b) + dot(e.c, e.c) + dot(e.d, e.d);
    for (var c = 0u; c < VECTORS; c++) { squares[c] += select(0.0, sum, c == owner); }
    // Also what does not fit, and is staged again when it is needed: behind a branch the norm's weights would be waited for alone.
    stage_half(owner, min(half, 2 * CHUNK - 1), normed_half(v, half, e));
  }
  leave_sums(squares, at);
  workgroupBarrier();
  squares = left_sums(at);
  for (var c = 0u; c < VECTORS; c++) { squares[c] = inverseSqrt(squares[c] / f32(v.cols) + v.eps); }
  return squares;
}

fn ones() -> array<f32, VECTORS> {
  var result = array<f32, VECTORS>();
  for (var c = 0u; c < VECTORS; c++) { result[c] = 1; }
  return result;
}

// A block of what is staged, in registers: rows share its loads.
struct Staged {
  e: array<vec4f, 8>,
  high: array<vec4u, 2>,  // with INT16_ACTIVATIONS, of Int16
  low: array<vec4u, 2>,
  s: vec4f,  // sums of 16 and 16 elements; with INT16_ACTIVATIONS the scale of each half
}

fn load_staged(c: u32, block: u32) -> Staged { return staged_at(c, staged_block(block)); }
fn staged_at(c: u32, s: u32) -> Staged {
  let h = c * 2 * CHUNK + s;
  var x = Staged();
  if (INT16_ACTIVATIONS) {
    x.high[0] = staged_high[h];
    x.high[1] = staged_high[h + CHUNK];
    x.low[0] = staged_low[h];
    x.low[1] = staged_low[h + CHUNK];
    x.s = vec4f(staged_scale[h], staged_scale[h + CHUNK]);
  } else {
    for (var j = 0u; j < 8; j++) { x.e[j] = staged[(8 * c + j) * CHUNK + s]; }
    if (weight_type() > BF16) { x.s = vec4f(staged_sum[h], staged_sum[h + CHUNK], 0, 0); }
  }
  return x;
}

// The same of integers, of which each lane of a subgroup loads a part. Subgroups have 8 lanes at least. Uniform control flow only.
fn share_staged(c: u32, block: u32, at: Lane) -> Staged {
  var x = Staged();
  let half = c * 2 * CHUNK + (sublane(at) & 1) * CHUNK + staged_block(block);
  let high = first_lanes_vec4f(bitcast<vec4f>(staged_high[half]));
  let low = first_lanes_vec4f(bitcast<vec4f>(staged_low[half]));
  let scale = first_lanes_vec4f(vec4f(staged_scale[half], 0, 0));
  x.high = array<vec4u, 2>(bitcast<vec4u>(high[0]), bitcast<vec4u>(high[1]));
  x.low = array<vec4u, 2>(bitcast<vec4u>(low[0]), bitcast<vec4u>(low[1]));
  x.s = vec4f(scale[0].xy, scale[1].xy);
  return x;
}

// Block b of vector c as it is in x, likewise.
fn share_block(v: Vectors, c: u32, b: u32, at: Lane) -> Staged {
  let col = 32 * b + 4 * (sublane(at) & 7);
  var e = element4(v, c, col);
  if (NORM_INPUT) { e *= norm_at(v, col); }
  var x = Staged();
  x.e = first_lanes_vec4f(e);
  let low = x.e[0] + x.e[1] + x.e[2] + x.e[3];
  let high = x.e[4] + x.e[5] + x.e[6] + x.e[7];
  x.s = vec4f(low.x + low.y + low.z + low.w, high.x + high.y + high.z + high.w, 0, 0);
  return x;
}

// A block of the weights, of a float type or an integer one.
struct Weights { floats: array<vec4f, 8>, block: Block }

fn load_weights(at: Place) -> Weights {
  var w = Weights();
  if (weight_type() <= BF16) {
    w.floats = load_floats(at);
  } else {
    w.block = load_block(at);
  }
  return w;
}

// It times a block of a vector.
fn weights_dot(w: Weights, x: Staged) -> f32 {
  if (weight_type() <= BF16) {
    var sum = 0.0;
    for (var j = 0u; j < 8; j++) { sum += dot(w.floats[j], x.e[j]); }
    return sum;
  }
  return block_dot(w.block, x);
}

fn block_dot(block: Block, x: Staged) -> f32 {
  if (INT16_ACTIVATIONS) {
    let a = dot_int16(vec4u(block.q[0], block.q[1], block.q[2], block.q[3]), x.high[0], x.low[0]);
    let c = dot_int16(vec4u(block.q[4], block.q[5], block.q[6], block.q[7]), x.high[1], x.low[1]);
    if (one_scale()) { return block.scale.x * (x.s.x * f32(a) + x.s.z * f32(c)) + block.offset.x * (x.s.y + x.s.w); }
    return block.scale.x * x.s.x * f32(a) + block.offset.x * x.s.y + block.scale.y * x.s.z * f32(c) + block.offset.y * x.s.w;
  }
  var sum = vec2f();
  for (var j = 0u; j < 4; j++) {
    sum.x += dot(vec4f(unpack4xI8(block.q[j])), x.e[j]);
    sum.y += dot(vec4f(unpack4xI8(block.q[j + 4])), x.e[j + 4]);
  }
  return dot(block.scale, sum) + dot(block.offset, x.s.xy);
}

// Piece `piece` of a row's blocks from `first` on, of a float type; of vector c the elements that it meets; their product.
fn weights_piece(row: u32, first: u32, row_blocks: u32, piece: u32) -> vec4u {
  let n = block_pieces();
  return quant(place_of(row, first + piece / n, row_blocks).block * n + piece % n);
}
struct Piece { low: vec4f, high: vec4f }  // f32 has no high
fn load_piece(c: u32, piece: u32) -> Piece {
  var x = Piece(staged[c * 8 * CHUNK + piece], vec4f());
  if (weight_type() != F32) { x.high = staged[(c * 8 + 4) * CHUNK + piece]; }
  return x;
}
fn piece_dot(q: vec4u, x: Piece) -> f32 {
  if (weight_type() == F32) { return dot(bitcast<vec4f>(q), x.low); }
  if (weight_type() == F16) {
    return dot(vec4f(unpack2x16float(q.x), unpack2x16float(q.y)), x.low) + dot(vec4f(unpack2x16float(q.z), unpack2x16float(q.w)), x.high);
  }
  return dot(vec4f(bf16_pair(q.x), bf16_pair(q.y)), x.low) + dot(vec4f(bf16_pair(q.z), bf16_pair(q.w)), x.high);
}

// Of vector c block h of pair p of what is staged.
fn load_pair(c: u32, p: u32, h: u32) -> Staged { return staged_at(c, h * (CHUNK / 2) + p); }

// Which team of its workgroup a lane is in, and its place there.
struct Team { index: u32, lane: u32, lanes: u32 }

fn team_of(at: Lane) -> Team {
  if (team_lanes() == 0) {
    let split = min(SPLIT, known_subgroups(at));
    let size = min(known_subgroup_size(at), WORKGROUP_SIZE);
    return Team(subgroup(at) / split, subgroup(at) % split * size + sublane(at), split * size);
  }
  return Team(at.lane / team_lanes(), at.lane % team_lanes(), team_lanes());
}

// The teams of a workgroup. Uniform control flow only.
fn team_count(at: Lane) -> u32 {
  if (team_lanes() != 0) { return WORKGROUP_SIZE / team_lanes(); }
  let count = uniform_subgroups(at);
  return count / min(SPLIT, count);
}

// The sums over a team, in its first lane at least. Uniform control flow only.
fn sum_team(values: array<f32, SUMS>, team: Team, at: Lane) -> array<f32, SUMS> {
  var sums = values;
  if (team_lanes() == 1) { return sums; }
  if (team_lanes() == 0) {
    for (var r = 0u; r < SUMS; r++) { sums[r] = sum_together(sums[r]); }
    if (SPLIT == 1) { return sums; }
    workgroupBarrier();
    if (sublane(at) == 0) {
      for (var r = 0u; r < SUMS; r++) { team_sums[subgroup(at) * SUMS + r] = sums[r]; }
    }
    workgroupBarrier();
    if (team.lane == 0) {
      for (var i = 1u; i < min(SPLIT, known_subgroups(at)); i++) {
        for (var r = 0u; r < SUMS; r++) { sums[r] += team_sums[(subgroup(at) + i) * SUMS + r]; }
      }
    }
    return sums;
  }
  for (var r = 0u; r < SUMS; r++) {
    if (team_lanes() == WORKGROUP_SIZE) {
      sums[r] = workgroup_sum(sums[r], at);
      continue;
    }
    workgroupBarrier();
    team_sums[at.lane] = sums[r];
    workgroupBarrier();
    if (team.lane == 0) {
      for (var i = 1u; i < team_lanes(); i++) { sums[r] += team_sums[at.lane + i]; }
    }
  }
  return sums;
}

// The rows first_row to first_row + ROWS of the weights times the vectors, in the team's first lane at least. Uniform
// control flow only. Rows at or beyond `rows` repeat the last one, for the caller to drop.
fn gemv(v: Vectors, first_row: u32, rows: u32, team: Team, at: Lane) -> array<f32, SUMS> {
  var sums = array<f32, SUMS>();
  if (in_place()) {
    for (var b = 0u; b < v.row_blocks; b++) {
      var x = array<Staged, VECTORS>();
      for (var c = 0u; c < VECTORS; c++) { x[c] = share_block(v, c, b, at); }
      for (var r = 0u; r < ROWS; r++) {
        let w = load_weights(place_of(min(first_row + r, rows - 1), b, v.row_blocks));
        for (var c = 0u; c < VECTORS; c++) { sums[c * ROWS + r] += weights_dot(w, x[c]); }
      }
    }
    return sums;
  }
  for (var first = 0u; first < v.row_blocks; first += CHUNK) {
    if (v.row_blocks > CHUNK) {
      workgroupBarrier();
      stage(v, first, at);
      workgroupBarrier();
    }
    let count = min(CHUNK, v.row_blocks - first);
    if (lanes_share()) {
      for (var s = 0u; s < count; s++) {
        var x = array<Staged, VECTORS>();
        for (var c = 0u; c < VECTORS; c++) { x[c] = share_staged(c, s, at); }
        for (var r = 0u; r < ROWS; r++) {
          let w = load_weights(place_of(min(first_row + r, rows - 1), first + s, v.row_blocks));
          for (var c = 0u; c < VECTORS; c++) { sums[c * ROWS + r] += weights_dot(w, x[c]); }
        }
      }
      continue;
    }
    if (in_pieces()) {
      let pieces = count * block_pieces();
      for (var t = team.lane; t < pieces; t += team.lanes * max(1, UNROLL)) {
        for (var u = 0u; u < max(1, UNROLL); u++) {
          let own = t + u * team.lanes;
          let piece = min(own, pieces - 1);
          let within = (u == 0) | (own < pieces);
          let x = load_piece(0, piece);
          for (var r = 0u; r < ROWS; r++) {
            let q = weights_piece(min(first_row + r, rows - 1), first, v.row_blocks, piece);
            sums[r] += select(0, piece_dot(q, x), within);
            for (var c = 1u; c < VECTORS; c++) { sums[c * ROWS + r] += select(0, piece_dot(q, load_piece(c, piece)), within); }
          }
        }
      }
      continue;
    }
    if (UNROLL == 0) {
      for (var s = team.lane; s < count; s += team.lanes) {
        let x = load_staged(0, s);
        for (var r = 0u; r < ROWS; r++) {
          let w = load_weights(place_of(min(first_row + r, rows - 1), first + s, v.row_blocks));
          sums[r] += weights_dot(w, x);
          for (var c = 1u; c < VECTORS; c++) { sums[c * ROWS + r] += weights_dot(w, load_staged(c, s)); }
        }
      }
      continue;
    }
    let pairs = count / 2;
    for (var t = team.lane; t < pairs; t += team.lanes * UNROLL) {
      for (var u = 0u; u < UNROLL; u++) {
        let own = t + u * team.lanes;
        let p = min(own, pairs - 1);
        let within = (u == 0) | (own < pairs);
        let even = load_pair(0, p, 0);
        let odd = load_pair(0, p, 1);
        for (var r = 0u; r < ROWS; r++) {
          let row = min(first_row + r, rows - 1);
          let w0 = load_weights(place_in_pair(row, first / 2 + p, 0, v.row_blocks));
          let w1 = load_weights(place_in_pair(row, first / 2 + p, 1, v.row_blocks));
          sums[r] += select(0, weights_dot(w0, even) + weights_dot(w1, odd), within);
          for (var c = 1u; c < VECTORS; c++) {
            let both = weights_dot(w0, load_pair(c, p, 0)) + weights_dot(w1, load_pair(c, p, 1));
            sums[c * ROWS + r] += select(0, both, within);
          }
        }
      }
    }
  }
  return sum_team(sums, team, at);
}
