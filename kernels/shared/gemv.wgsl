// gemv.wgsl: dot products of packed weight rows with one vector that is staged, chunk by chunk, in
// workgroup memory. The body of matmul_gemv, matmul_gemv_residual and fused_ffn.
//
// Needs: #import lane, reduce, blocks, int8; fn x4(i) -> vec4f, elements 4 i to 4 i + 3 of the vectors; override WORKGROUP_SIZE, CHUNK, SPLIT, UNROLL,
// NORM_INPUT (or a const), INT8_ACTIVATIONS, USE_SUBGROUPS; const ROWS; fn norm4(i) -> vec4f, the norm's weights 4 i to 4 i + 3;
// fn team_lanes() -> u32, of overrides alone: the lanes that share a row, 0 for those of SPLIT subgroups.
//
// A team of lanes owns ROWS rows, whose weights share what is read of x; its lane t takes blocks t, t + lanes, … of them
// or UNROLL pairs of blocks at once, or, of a float type, 16 bytes t, t + lanes, … and UNROLL of these at once, so that
// neighbouring lanes read neighbouring words of W. The vector is stored so that they do of it, too. With USE_SUBGROUPS and a lane a team, a subgroup's lanes
// want the same block of the vector at once: each reads a part and passes it on, of x itself unless there are INT8_ACTIVATIONS.
// Nothing is staged then: lavapipe keeps what it loads in registers until a kernel's first barrier, and in memory from there on.
struct Vector { cols: u32, row_blocks: u32, start: u32, eps: f32 }  // start: its first element, a multiple of 4

var<workgroup> staged: array<vec4f, select(1, 8 * CHUNK, !INT8_ACTIVATIONS)>;       // [8 * CHUNK] four elements, at staged_place
var<workgroup> staged_sum: array<f32, select(1, 2 * CHUNK, !INT8_ACTIVATIONS)>;    // [2, CHUNK] of 16 elements each
var<workgroup> staged_int8: array<vec4u, select(1, 2 * CHUNK, INT8_ACTIVATIONS)>;   // [2, CHUNK] 16 int8
var<workgroup> staged_scale: array<vec2f, select(1, 2 * CHUNK, INT8_ACTIVATIONS)>;  // [2, CHUNK] {scale, scale * their sum}
var<workgroup> team_sums: array<f32, WORKGROUP_SIZE * max(1, ROWS / 4)>;             // a subgroup has 4 lanes at least
var<workgroup> shared_count: u32;

// Four elements from col on, with zeros for those beyond the vector's end. Without a branch, so that loads overlap.
fn element4(v: Vector, col: u32) -> vec4f {
  let e = x4((v.start + min(col, v.cols - 1)) / 4);
  return select(vec4f(), e, vec4u(col, col + 1, col + 2, col + 3) < vec4u(v.cols));
}
fn norm_at(v: Vector, col: u32) -> vec4f { return norm4(min(col, v.cols - 1) / 4); }

// Whether a lane is a team, and the lanes of a subgroup read the vector between them: what is staged, or x itself.
fn lanes_share() -> bool { return USE_SUBGROUPS & (team_lanes() == 1); }
fn in_place() -> bool { return lanes_share() & !INT8_ACTIVATIONS; }

fn sixteen_at(v: Vector, col: u32) -> Sixteen { return Sixteen(element4(v, col), element4(v, col + 4), element4(v, col + 8), element4(v, col + 12)); }
fn norms_at(v: Vector, col: u32) -> Sixteen { return Sixteen(norm_at(v, col), norm_at(v, col + 4), norm_at(v, col + 8), norm_at(v, col + 12)); }
fn times(x: Sixteen, y: Sixteen) -> Sixteen { return Sixteen(x.a * y.a, x.b * y.b, x.c * y.c, x.d * y.d); }

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

// Half a block of the vector, as it is and times the norm's weights.
fn load_half(v: Vector, half: u32) -> Sixteen {
  let col = 16 * half;
  return Sixteen(element4(v, col), element4(v, col + 4), element4(v, col + 8), element4(v, col + 12));
}
fn normed_half(v: Vector, half: u32, e: Sixteen) -> Sixteen {
  if (!NORM_INPUT) { return e; }
  let col = 16 * half;
  return Sixteen(e.a * norm_at(v, col), e.b * norm_at(v, col + 4), e.c * norm_at(v, col + 8), e.d * norm_at(v, col + 12));
}
// Stages it, the half-th of the present ones.
fn stage_half(half: u32, e: Sixteen) {
  let place = (half & 1) * CHUNK + staged_block(half >> 1);
  if (INT8_ACTIVATIONS) {
    let rounded = to_int8(e);
    staged_int8[place] = rounded.q;
    staged_scale[place] = rounded.scale;
  } else {
    staged[staged_place(4 * half)] = e.a;
    staged[staged_place(4 * half + 1)] = e.b;
    staged[staged_place(4 * half + 2)] = e.c;
    staged[staged_place(4 * half + 3)] = e.d;
    let sum = e.a + e.b + e.c + e.d;
    staged_sum[place] = sum.x + sum.y + sum.z + sum.w;
  }
}

// Stages blocks first to first + CHUNK of the vector. Barriers on both sides are the caller's.
fn stage(v: Vector, first: u32, at: Lane) {
  for (var half = at.lane; half < 2 * min(CHUNK, v.row_blocks - first); half += WORKGROUP_SIZE) {
    stage_half(half, normed_half(v, 2 * first + half, load_half(v, 2 * first + half)));
  }
}

// Before gemv: stages a vector that fits. What the rows' sums are to be multiplied with: with NORM_INPUT rows meet the vector times the
// norm's weights alone, since 1 / sqrt(mean(x^2) + eps) may come later than these. Uniform control flow only.
fn prepare(v: Vector, at: Lane) -> f32 {
  let fits = v.row_blocks <= CHUNK;
  var squares = 0.0;
  if (in_place()) {
    if (!NORM_INPUT) { return 1; }
    for (var col = 4 * sublane(at); col < v.cols; col += 4 * subgroup_size(at)) {
      let e = element4(v, col);
      squares += dot(e, e);
    }
    return inverseSqrt(subgroup_sum_f32(squares) / f32(v.cols) + v.eps);
  }
  for (var half = at.lane; half < 2 * v.row_blocks; half += WORKGROUP_SIZE) {
    if (!NORM_INPUT & !fits) { break; }
    let e = load_half(v, half);
    squares += dot(e.a, e.a) + dot(e.b, e.b) + dot(e.c, e.c) + dot(e.d, e.d);
    if (fits) { stage_half(half, normed_half(v, half, e)); }
  }
  if (!NORM_INPUT) {
    workgroupBarrier();
    return 1;
  }
  leave_sum(squares, at);
  workgroupBarrier();
  return inverseSqrt(left_sum(at) / f32(v.cols) + v.eps);
}

// A block of what is staged, in registers: rows share its loads.
struct Staged {
  e: array<vec4f, 8>,
  q: array<vec4u, 2>,
  s: vec4f,  // sums of 16 and 16 elements; with INT8_ACTIVATIONS {scale, scale * sum} of each half
}

fn load_staged(block: u32) -> Staged {
  let s = staged_block(block);
  var x = Staged();
  if (INT8_ACTIVATIONS) {
    x.q[0] = staged_int8[s];
    x.q[1] = staged_int8[CHUNK + s];
    x.s = vec4f(staged_scale[s], staged_scale[CHUNK + s]);
  } else {
    for (var j = 0u; j < 8; j++) { x.e[j] = staged[j * CHUNK + s]; }
    if (weight_type() > BF16) { x.s = vec4f(staged_sum[s], staged_sum[CHUNK + s], 0, 0); }
  }
  return x;
}

// The same of int8, of which each lane of a subgroup loads a part. Subgroups have 8 lanes at least. Uniform control flow only.
fn share_staged(block: u32, at: Lane) -> Staged {
  var x = Staged();
  let half = (sublane(at) & 1) * CHUNK + staged_block(block);
  let q = first_lanes_vec4f(bitcast<vec4f>(staged_int8[half]));
  let scale = first_lanes_vec4f(vec4f(staged_scale[half], 0, 0));
  x.q = array<vec4u, 2>(bitcast<vec4u>(q[0]), bitcast<vec4u>(q[1]));
  x.s = vec4f(scale[0].xy, scale[1].xy);
  return x;
}

// Block b of the vector as it is in x, likewise.
fn share_block(v: Vector, b: u32, at: Lane) -> Staged {
  let col = 32 * b + 4 * (sublane(at) & 7);
  var e = element4(v, col);
  if (NORM_INPUT) { e *= norm_at(v, col); }
  var x = Staged();
  x.e = first_lanes_vec4f(e);
  let low = x.e[0] + x.e[1] + x.e[2] + x.e[3];
  let high = x.e[4] + x.e[5] + x.e[6] + x.e[7];
  x.s = vec4f(low.x + low.y + low.z + low.w, high.x + high.y + high.z + high.w, 0, 0);
  return x;
}

// A block of the weights times a block of the vector.
fn block_dot(at: Place, x: Staged) -> f32 {
  if (weight_type() <= BF16) {
    let w = load_floats(at);
    var sum = 0.0;
    for (var j = 0u; j < 8; j++) { sum += dot(w[j], x.e[j]); }
    return sum;
  }
  let block = load_block(at);
  if (INT8_ACTIVATIONS) {
    let low = x.q[0];
    let high = x.q[1];
    let a = dot4I8Packed(block.q[0], low.x) + dot4I8Packed(block.q[1], low.y) + dot4I8Packed(block.q[2], low.z) + dot4I8Packed(block.q[3], low.w);
    let c = dot4I8Packed(block.q[4], high.x) + dot4I8Packed(block.q[5], high.y) + dot4I8Packed(block.q[6], high.z) + dot4I8Packed(block.q[7], high.w);
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

// Piece `piece` of a row's blocks from `first` on, of a float type, times its elements of the vector.
fn piece_dot(row: u32, first: u32, row_blocks: u32, piece: u32, low: vec4f, high: vec4f) -> f32 {
  let n = block_pieces();
  let q = quant(place_of(row, first + piece / n, row_blocks).block * n + piece % n);
  if (weight_type() == F32) { return dot(bitcast<vec4f>(q), low); }
  if (weight_type() == F16) {
    return dot(vec4f(unpack2x16float(q.x), unpack2x16float(q.y)), low) + dot(vec4f(unpack2x16float(q.z), unpack2x16float(q.w)), high);
  }
  return dot(vec4f(bf16_pair(q.x), bf16_pair(q.y)), low) + dot(vec4f(bf16_pair(q.z), bf16_pair(q.w)), high);
}

// Which team of its workgroup a lane is in, and its place there.
struct Team { index: u32, lane: u32, lanes: u32 }

fn team_of(at: Lane) -> Team {
  if (team_lanes() == 0) {
    let split = min(SPLIT, subgroups(at));
    let size = min(subgroup_size(at), WORKGROUP_SIZE);
    return Team(subgroup(at) / split, subgroup(at) % split * size + sublane(at), split * size);
  }
  return Team(at.lane / team_lanes(), at.lane % team_lanes(), team_lanes());
}

// The teams of a workgroup: a uniform value, which the subgroups' number is to the device but not to Tint.
fn team_count(at: Lane) -> u32 {
  if (team_lanes() != 0) { return WORKGROUP_SIZE / team_lanes(); }
  if (at.lane == 0) { shared_count = subgroups(at) / min(SPLIT, subgroups(at)); }
  return workgroupUniformLoad(&shared_count);
}

// The sums over a team, in its first lane at least. Uniform control flow only.
fn sum_team(values: array<f32, ROWS>, team: Team, at: Lane) -> array<f32, ROWS> {
  var sums = values;
  if (team_lanes() == 1) { return sums; }
  if (team_lanes() == 0) {
    for (var r = 0u; r < ROWS; r++) { sums[r] = subgroup_sum_f32(sums[r]); }
    if (SPLIT == 1) { return sums; }
    workgroupBarrier();
    if (sublane(at) == 0) {
      for (var r = 0u; r < ROWS; r++) { team_sums[subgroup(at) * ROWS + r] = sums[r]; }
    }
    workgroupBarrier();
    if (team.lane == 0) {
      for (var i = 1u; i < min(SPLIT, subgroups(at)); i++) {
        for (var r = 0u; r < ROWS; r++) { sums[r] += team_sums[(subgroup(at) + i) * ROWS + r]; }
      }
    }
    return sums;
  }
  for (var r = 0u; r < ROWS; r++) {
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

// The rows first_row to first_row + ROWS of the weights times the vector, in the team's first lane at least. Uniform
// control flow only. Rows at or beyond `rows` repeat the last one, for the caller to drop.
fn gemv(v: Vector, first_row: u32, rows: u32, team: Team, at: Lane) -> array<f32, ROWS> {
  var sums = array<f32, ROWS>();
  if (in_place()) {
    for (var b = 0u; b < v.row_blocks; b++) {
      let x = share_block(v, b, at);
      for (var r = 0u; r < ROWS; r++) { sums[r] += block_dot(place_of(min(first_row + r, rows - 1), b, v.row_blocks), x); }
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
        let x = share_staged(s, at);
        for (var r = 0u; r < ROWS; r++) {
          sums[r] += block_dot(place_of(min(first_row + r, rows - 1), first + s, v.row_blocks), x);
        }
      }
      continue;
    }
    if (in_pieces()) {
      let pieces = count * block_pieces();
      for (var t = team.lane; t < pieces; t += team.lanes * max(1, UNROLL)) {
        for (var u = 0u; u < max(1, UNROLL); u++) {
          let piece = min(t + u * team.lanes, pieces - 1);
          var low = staged[piece];
          var high = vec4f();
          if (weight_type() != F32) { high = staged[4 * CHUNK + piece]; }
          if ((UNROLL > 1) & (t + u * team.lanes >= pieces)) {
            low = vec4f();
            high = vec4f();
          }
          for (var r = 0u; r < ROWS; r++) {
            sums[r] += piece_dot(min(first_row + r, rows - 1), first, v.row_blocks, piece, low, high);
          }
        }
      }
      continue;
    }
    if (UNROLL == 0) {
      for (var s = team.lane; s < count; s += team.lanes) {
        let x = load_staged(s);
        for (var r = 0u; r < ROWS; r++) {
          sums[r] += block_dot(place_of(min(first_row + r, rows - 1), first + s, v.row_blocks), x);
        }
      }
      continue;
    }
    let pairs = count / 2;
    for (var t = team.lane; t < pairs; t += team.lanes * UNROLL) {
      for (var u = 0u; u < UNROLL; u++) {
        let p = min(t + u * team.lanes, pairs - 1);
        var even = load_staged(2 * p);
        var odd = load_staged(2 * p + 1);
        if ((UNROLL > 1) & (t + u * team.lanes >= pairs)) {
          even = Staged();
          odd = Staged();
        }
        for (var r = 0u; r < ROWS; r++) {
          let row = min(first_row + r, rows - 1);
          sums[r] += block_dot(place_in_pair(row, first / 2 + p, 0, v.row_blocks), even);
          sums[r] += block_dot(place_in_pair(row, first / 2 + p, 1, v.row_blocks), odd);
        }
      }
    }
  }
  return sum_team(sums, team, at);
}
