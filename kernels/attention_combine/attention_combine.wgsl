// attention_combine.wgsl: the attention of query heads from what several splits of their keys have left (fused_attention's parts).
//
// Sixteen elements a lane. For those readers of attention that do not combine it themselves, as matmul_gemv_residual does.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535.
// Limits: HEAD_DIM a multiple of 16, up to 256. With F16_OUT what is beyond f16's range becomes +-65504.
// Beyond the plan: what the last workgroup of attention_decode does in a dispatch of its own, which costs less than waiting for atomics.
// Replaces nothing by itself: attention_decode's last workgroup combines on the way.

#import lane
#import int16
#import splits
#import half

override WORKGROUP_SIZE: u32 = 64;
override F16_PARTS: bool = true;  // values of parts are f16
override F16_OUT: bool = false;   // so is out
// HEAD_DIM: a multiple of 16

struct Params {
  query_heads: u32,  // rows * heads
  splits: u32,       // a multiple of 4
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> parts: array<vec4u>;      // of shared/splits.wgsl
@group(0) @binding(2) var<storage, read_write> out: array<vec4u>;  // [query_heads, HEAD_DIM] f32, or f16

fn part_unit(i: u32) -> vec4u { return parts[i]; }

fn four_halves(e: vec4f) -> vec2u { return pack_halves(to_half_or_nan(bitcast<vec4u>(e))); }

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let i = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + at.lane;
  let pieces = HEAD_DIM / 16;
  if (i >= params.query_heads * pieces) { return; }
  let e = combined(Splits(params.splits, params.query_heads), i / pieces, i % pieces);
  if (F16_OUT) {
    out[2 * i] = vec4u(four_halves(e.a), four_halves(e.b));
    out[2 * i + 1] = vec4u(four_halves(e.c), four_halves(e.d));
    return;
  }
  out[4 * i] = bitcast<vec4u>(e.a);
  out[4 * i + 1] = bitcast<vec4u>(e.b);
  out[4 * i + 2] = bitcast<vec4u>(e.c);
  out[4 * i + 3] = bitcast<vec4u>(e.d);
}
