// dequant_mxfp4.wgsl: y = 2^(e - 127) * q for MXFP4: q E2M1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and a sign), e E8M0, one a group.
//
// Groups have 32 elements in the OCP Microscaling Formats specification, any multiple of 8 here. It reads e 0 as 2^-127
// and e 255 as NaN: both give zeros. What is beyond f32 gives its largest number. By integers, so exact, subnormals too.
// A lane makes four times four elements, or with USE_VEC4 eight.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: 2^32 - 1 elements; rows of y are multiples of 4, cols of group_size.
// Replaces main, main_vec4 and main_expert of the old dequant_mxfp4.wgsl.

#import lane

override WORKGROUP_SIZE: u32 = 256;
override USE_VEC4: bool = false;  // a lane takes a whole word of blocks
override EXPERT: bool = false;    // blocks and scales are of num_experts matrices of out_dim rows; y is expert_idx's

struct Params {
  total_elements: u32,  // rows * num_groups * group_size
  num_groups: u32,      // of a row
  group_size: u32,      // a multiple of 8
  row_stride: u32,      // elements from row to row of y, a multiple of 4
  expert_idx: u32,      // with EXPERT, below num_experts
  num_experts: u32,
  out_dim: u32,         // rows of a matrix
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> blocks: array<u32>;      // [experts, out_dim, num_groups * group_size / 8] nibbles, low ones first
@group(0) @binding(2) var<storage, read> scales: array<u32>;      // [experts, out_dim, num_groups] bytes
@group(0) @binding(3) var<storage, read_write> y: array<vec4u>;  // [out_dim, row_stride] f32

// The bits of four elements, the low nibbles of q.
fn decode(q: vec4u, e: u32) -> vec4u {
  let sign = (q & vec4u(8)) << vec4u(28);
  if (e == 0 || e == 255) { return sign; }
  // Two bits of exponent and one of mantissa lie as those of f32 do; but q 1 is 0.5, not a power of two and a half.
  let m = q & vec4u(7);
  let base = (e - 1) << 23;
  let bits = select(base + (m << vec4u(22)), m * max(base, 1u << 22), m < vec4u(2));
  return min(bits, vec4u(0x7f7fffff)) | sign;
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let size = select(4u, 8u, USE_VEC4);
  // A workgroup apart, so that lanes write side by side; all loads before the first store.
  let first = ((group.id.y * group.count.x + group.id.x) * 4 * WORKGROUP_SIZE + at.lane) * size;
  var groups_before = 0u;
  if (EXPERT) { groups_before = params.expert_idx * params.out_dim * params.num_groups; }
  let words_before = groups_before * (params.group_size / 8);
  var words = vec4u();
  var exponents = vec4u();
  for (var k = 0u; k < 4; k++) {
    let i = min(first + k * WORKGROUP_SIZE * size, params.total_elements - 1);
    var source_group = i / 32;
    if (params.group_size != 32) { source_group = i / params.group_size; }  // uniform; divisions are slow
    source_group += groups_before;
    words[k] = blocks[words_before + i / 8];
    exponents[k] = scales[source_group / 4] >> (source_group % 4 * 8);
  }
  let cols = params.num_groups * params.group_size;
  for (var k = 0u; k < 4; k++) {
    let i = first + k * WORKGROUP_SIZE * size;
    if (i < params.total_elements) {
      var to = i / 4;
      if (params.row_stride != cols) { to = (i / cols * params.row_stride + i % cols) / 4; }
      let e = exponents[k] & 255;
      let q = vec4u(words[k] >> (i % 8 * 4)) >> vec4u(0, 4, 8, 12);
      y[to] = decode(q, e);
      if (USE_VEC4) { y[to + 1] = decode(q >> vec4u(16), e); }
    }
  }
}
