// fused_matmul_q4.wgsl: C = alpha * A B^T for a B of Q4_K blocks as they lie in a file, decoded on the way.
//
// A team of lanes owns a column of C, that is a row of B: a workgroup, or with MULTICOL eight lanes of it. A lane takes
// 8 bytes of quants at a time. Sums in f32. K is a multiple of 256.
// Grid: (columns / teams of a workgroup, folded into (x, y) beyond 65535, rows of A, with BATCHED in fours).
// Limits: 65,535 rows of A, with BATCHED four times as many, one without; 2^32 - 1 elements of A and of C.
// Replaces main, main_multicol and main_batched of the old fused_matmul_q4.wgsl.

#import lane
#import half
#import unpack
#import q4k

override WORKGROUP_SIZE: u32 = 64;  // a power of two, 8 or more
override MULTICOL: bool = false;    // WORKGROUP_SIZE / 8 columns a workgroup, else one
override BATCHED: bool = false;     // four rows of A share what is read of B; else A has one row

struct Params {
  M: u32,                   // rows of A
  N: u32,                   // rows of B
  K: u32,                   // columns of both
  alpha: f32,
  num_blocks_per_row: u32,  // of B: K / 256
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> a: array<vec4f>;       // [M, K] f32
@group(0) @binding(2) var<storage, read> b: array<vec4u>;       // [N, num_blocks_per_row, 9] Q4_K
@group(0) @binding(3) var<storage, read_write> c: array<f32>;  // [M, N]

var<workgroup> team_sums: array<vec4f, WORKGROUP_SIZE>;

// Eight weights of one run, 4 a vec4, and as many of the next, 32 columns on: the nibbles of 8 bytes. No more, so that
// lanes read a side by side.
struct Part { q: array<vec4f, 4>, scale: vec4f }  // {scale, minimum} of either run

fn load_part(block: u32, j: u32) -> Part {
  let head = b[block * 9];
  let both = b[block * 9 + 1 + j / 2];
  let w = select(both.xy, both.zw, j % 2 == 1);
  return Part(array<vec4f, 4>(nibbles_of(w.x), nibbles_of(w.y), nibbles_of(w.x >> 4), nibbles_of(w.y >> 4)),
              q4k_scales(head, j / 4 * 2));
}

// The part times 16 elements of a, from vec4 `at` on.
fn part_dot(part: Part, at: u32) -> f32 {
  let low = array<vec4f, 2>(a[at], a[at + 1]);
  let high = array<vec4f, 2>(a[at + 8], a[at + 9]);
  return dot(part.scale, vec4f(dot(part.q[0], low[0]) + dot(part.q[1], low[1]), dot(vec4f(-1), low[0] + low[1]),
                               dot(part.q[2], high[0]) + dot(part.q[3], high[1]), dot(vec4f(-1), high[0] + high[1])));
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let lanes = select(WORKGROUP_SIZE, 8u, MULTICOL);  // of a team
  let lane = at.lane % lanes;
  let first_col = (group.id.y * group.count.x + group.id.x) * (WORKGROUP_SIZE / lanes);
  if (first_col >= params.N) { return; }  // uniform
  let col = first_col + at.lane / lanes;
  let row = group.id.z * select(1u, 4u, BATCHED);
  let last = params.M - 1;
  let row_units = params.K / 4;  // vec4s

  var sums = vec4f();
  if (col < params.N) {
    for (var unit = lane; unit < params.num_blocks_per_row * 16; unit += lanes) {
      let part = load_part(col * params.num_blocks_per_row + unit / 16, unit % 16);
      let start = unit / 4 * 16 + unit % 4 * 2;
      sums.x += part_dot(part, row * row_units + start);
      if (BATCHED) {  // rows beyond the last repeat it, for nothing
        sums.y += part_dot(part, min(row + 1, last) * row_units + start);
        sums.z += part_dot(part, min(row + 2, last) * row_units + start);
        sums.w += part_dot(part, min(row + 3, last) * row_units + start);
      }
    }
  }
  team_sums[at.lane] = sums;
  for (var stride = lanes / 2; stride > 0; stride /= 2) {
    workgroupBarrier();
    if (lane < stride) { team_sums[at.lane] += team_sums[at.lane + stride]; }
  }
  workgroupBarrier();
  // A row of A a lane.
  if (lane < select(1u, 4u, BATCHED) && col < params.N && row + lane < params.M) {
    c[(row + lane) * params.N + col] = params.alpha * team_sums[at.lane - lane][lane];
  }
}
