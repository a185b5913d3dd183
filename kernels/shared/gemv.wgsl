// gemv.wgsl: dot products of packed weight rows with one vector that is staged, chunk by chunk, in
// workgroup memory. The body of matmul_gemv, matmul_gemv_residual and fused_ffn.
//
// Needs: #import lane, reduce, blocks, int8; binding x: array<vec4f>; override WORKGROUP_SIZE, CHUNK, NORM_INPUT (or a const),
// INT8_ACTIVATIONS, USE_SUBGROUPS; const ROWS; fn norm4(col, last) -> vec4f, the norm's weights from col on, none beyond last;
// fn team_lanes() -> u32, of overrides alone: the lanes that share a row, 0 for a subgroup's.
//
// A team of lanes owns ROWS rows, whose weights share what is read of x; its lane t takes blocks t, t + lanes, …
// of them, or, of a float type, 16 bytes t, t + lanes, … so that neighbouring lanes read neighbouring words of W. The vector
// is stored so that they do of it, too. With USE_SUBGROUPS and a lane a team, a subgroup's lanes want the same block of the
// vector at once: each reads a part and passes it on.
struct Vector { cols: u32, row_blocks: u32, start: u32, eps: f32 }  // start: its first element in x, a multiple of 4

var<workgroup> staged: array<vec4f, select(1, 8 * CHUNK, !INT8_ACTIVATIONS)>;       // [8 * CHUNK] four elements, at staged_place
var<workgroup> staged_sum: array<f32, select(1, 2 * CHUNK, !INT8_ACTIVATIONS)>;    // [2, CHUNK] of 16 elements each
var<workgroup> staged_int8: array<vec4u, select(1, 2 * CHUNK, INT8_ACTIVATIONS)>;   // [2, CHUNK] 16 int8
var<workgroup> staged_scale: array<vec2f, select(1, 2 * CHUNK, INT8_ACTIVATIONS)>;  // [2, CHUNK] {scale, scale * their sum}
var<workgroup> team_sums: array<f32, WORKGROUP_SIZE>;
var<workgroup> shared_count: u32;

// 1 / sqrt(mean(x^2) + eps), or 1 when the vector is taken as it is.
fn vector_scale(v: Vector, at: Lane) -> f32 {
  if (!NORM_INPUT) { return 1; }
  var sum = 0.0;
  for (var i = at.lane; i < (v.cols + 3) / 4; i += WORKGROUP_SIZE) {
    let e = inside(v, x[v.start / 4 + i], 4 * i);
    sum += dot(e, e);
  }
  return inverseSqrt(workgroup_sum(sum, at) / f32(v.cols) + v.eps);
}

// Four elements from col on, with zeros for those beyond the vector's end.
fn inside(v: Vector, e: vec4f, col: u32) -> vec4f {
  if (col + 4 <= v.cols) { return e; }
  return select(vec4f(), e, vec4u(col, col + 1, col + 2, col + 3) < vec4u(v.cols));
}

fn element4(v: Vector, scale: f32, col: u32) -> vec4f {
  if (col >= v.cols) { return vec4f(); }
  var e = x[(v.start + col) / 4];
  if (NORM_INPUT) { e *= scale * norm4(col, v.cols - 1); }
  return inside(v, e, col);
}

// Whether lanes share the blocks of a row 16 bytes by 16 bytes, and how many of these a block of a float type has.
fn in_pieces() -> bool { return (weight_type() <= BF16) & (team_lanes() != 1); }
fn block_pieces() -> u32 { return select(4u, 8u, weight_type() == F32); }

// Where the i-th four of the staged elements are.
fn staged_place(i: u32) -> u32 {
  if (!in_pieces()) { return (i & 7) * CHUNK + (i >> 3); }
  if (weight_type() == F32) { return i; }
  return (i & 1) * 4 * CHUNK + (i >> 1);
}

// Stages blocks first to first + CHUNK of the vector. Barriers on both sides are the caller's.
fn stage(v: Vector, scale: f32, first: u32, at: Lane) {
  for (var half = at.lane; half < 2 * min(CHUNK, v.row_blocks - first); half += WORKGROUP_SIZE) {
    let block = half >> 1;
    let h = half & 1;
    let col = (first * 2 + half) * 16;
    var e = array<vec4f, 4>();
    for (var j = 0u; j < 4; j++) { e[j] = element4(v, scale, col + 4 * j); }
    if (INT8_ACTIVATIONS) {
      let rounded = to_int8(e);
      staged_int8[h * CHUNK + block] = rounded.q;
      staged_scale[h * CHUNK + block] = rounded.scale;
    } else {
      for (var j = 0u; j < 4; j++) { staged[staged_place(4 * half + j)] = e[j]; }
      let sum = e[0] + e[1] + e[2] + e[3];
      staged_sum[h * CHUNK + block] = sum.x + sum.y + sum.z + sum.w;
    }
  }
}

// A block of what is staged, in registers: rows share its loads.
struct Staged {
  e: array<vec4f, 8>,
  q: array<vec4u, 2>,
  s: vec4f,  // sums of 16 and 16 elements; with INT8_ACTIVATIONS {scale, scale * sum} of each half
}

fn load_staged(s: u32) -> Staged {
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

// The same, of which each lane of a subgroup loads a part. Subgroups have 8 lanes at least. Uniform control flow only.
fn share_staged(s: u32, at: Lane) -> Staged {
  var x = Staged();
  if (INT8_ACTIVATIONS) {
    let half = (sublane(at) & 1) * CHUNK + s;
    let q = first_lanes_vec4f(bitcast<vec4f>(staged_int8[half]));
    let scale = first_lanes_vec4f(vec4f(staged_scale[half], 0, 0));
    x.q = array<vec4u, 2>(bitcast<vec4u>(q[0]), bitcast<vec4u>(q[1]));
    x.s = vec4f(scale[0].xy, scale[1].xy);
  } else {
    x.e = first_lanes_vec4f(staged[(sublane(at) & 7) * CHUNK + s]);
    let low = x.e[0] + x.e[1] + x.e[2] + x.e[3];
    let high = x.e[4] + x.e[5] + x.e[6] + x.e[7];
    x.s = vec4f(low.x + low.y + low.z + low.w, high.x + high.y + high.z + high.w, 0, 0);
  }
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
  let q = quants[place_of(row, first + piece / n, row_blocks).block * n + piece % n];
  if (weight_type() == F32) { return dot(bitcast<vec4f>(q), low); }
  if (weight_type() == F16) {
    return dot(vec4f(unpack2x16float(q.x), unpack2x16float(q.y)), low) + dot(vec4f(unpack2x16float(q.z), unpack2x16float(q.w)), high);
  }
  return dot(vec4f(bf16_pair(q.x), bf16_pair(q.y)), low) + dot(vec4f(bf16_pair(q.z), bf16_pair(q.w)), high);
}

// Which team of its workgroup a lane is in, and its place there.
struct Team { index: u32, lane: u32, lanes: u32 }

fn team_of(at: Lane) -> Team {
  if (team_lanes() == 0) { return Team(subgroup(at), sublane(at), min(subgroup_size(at), WORKGROUP_SIZE)); }
  return Team(at.lane / team_lanes(), at.lane % team_lanes(), team_lanes());
}

// The teams of a workgroup: a uniform value, which the subgroups' number is to the device but not to Tint.
fn team_count(at: Lane) -> u32 {
  if (team_lanes() != 0) { return WORKGROUP_SIZE / team_lanes(); }
  if (at.lane == 0) { shared_count = subgroups(at); }
  return workgroupUniformLoad(&shared_count);
}

// The sum over a team, in its first lane at least. Uniform control flow only.
fn team_sum(value: f32, at: Lane) -> f32 {
  if (team_lanes() == 1) { return value; }
  if (team_lanes() == 0) { return subgroup_sum_f32(value); }
  if (team_lanes() == WORKGROUP_SIZE) { return workgroup_sum(value, at); }
  workgroupBarrier();
  team_sums[at.lane] = value;
  workgroupBarrier();
  var sum = 0.0;
  if (at.lane % team_lanes() == 0) {
    for (var i = 0u; i < team_lanes(); i++) { sum += team_sums[at.lane + i]; }
  }
  return sum;
}

// The rows first_row to first_row + ROWS of the weights times the vector, in the team's first lane at least. Uniform
// control flow only. Rows at or beyond `rows` repeat the last one, for the caller to drop.
fn gemv(v: Vector, scale: f32, first_row: u32, rows: u32, team: Team, at: Lane) -> array<f32, ROWS> {
  var sums = array<f32, ROWS>();
  for (var first = 0u; first < v.row_blocks; first += CHUNK) {
    workgroupBarrier();
    stage(v, scale, first, at);
    workgroupBarrier();
    let count = min(CHUNK, v.row_blocks - first);
    if (USE_SUBGROUPS & (team_lanes() == 1)) {
      for (var s = 0u; s < count; s++) {
        let x = share_staged(s, at);
        for (var r = 0u; r < ROWS; r++) {
          sums[r] += block_dot(place_of(min(first_row + r, rows - 1), first + s, v.row_blocks), x);
        }
      }
      continue;
    }
    if (in_pieces()) {
      for (var t = team.lane; t < count * block_pieces(); t += team.lanes) {
        let low = staged[t];
        var high = vec4f();
        if (weight_type() != F32) { high = staged[4 * CHUNK + t]; }
        for (var r = 0u; r < ROWS; r++) {
          sums[r] += piece_dot(min(first_row + r, rows - 1), first, v.row_blocks, t, low, high);
        }
      }
      continue;
    }
    for (var s = team.lane; s < count; s += team.lanes) {
      let x = load_staged(s);
      for (var r = 0u; r < ROWS; r++) {
        sums[r] += block_dot(place_of(min(first_row + r, rows - 1), first + s, v.row_blocks), x);
      }
    }
  }
  for (var r = 0u; r < ROWS; r++) { sums[r] = team_sum(sums[r], at); }
  return sums;
}
