// attention_combine.wgsl: the attention of query heads from what several splits of their keys have left (fused_attention's parts).
//
// Sixteen elements a lane. For those readers of attention that do not combine it themselves, as matmul_gemv_residual does.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: HEAD_DIM a multiple of 16, up to 256.
// Beyond the plan: what the last workgroup of attention_decode does in a dispatch of its own, which costs less than waiting for atomics.
// Replaces nothing by itself: attention_decode's last workgroup combines on the way.

#import lane
#import int16
#import splits

override WORKGROUP_SIZE: u32 = 64;
override F16_PARTS: bool = true;  // values of parts are f16
// HEAD_DIM: a multiple of 16

struct Params {
  query_heads: u32,  // rows * heads
  splits: u32,       // a multiple of 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4u>;      // of shared/splits.wgsl
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;  // [query_heads, HEAD_DIM]

fn part_unit(i: u32) -> vec4u { return parts[i]; }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let pieces = HEAD_DIM / 16;
  if (i >= params.query_heads * pieces) { return; }
  let e = combined(Splits(params.splits, params.query_heads), i / pieces, i % pieces);
  out[4 * i] = e.a;
  out[4 * i + 1] = e.b;
  out[4 * i + 2] = e.c;
  out[4 * i + 3] = e.d;
}
