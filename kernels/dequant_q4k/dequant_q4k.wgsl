// dequant_q4k.wgsl: y = d * scale * q - dmin * least for Q4_K blocks as they lie in a file.
//
// A block is 256 elements in 144 bytes: d f16, dmin f16, 6-bit scales and minima of eight runs of 32 [12], q [128], two
// runs in the low and the high nibbles of 32 bytes. A lane makes 16 bytes of y, or with USE_VEC4 twice that.
// Exact but for the difference's rounding in f32; f16 is rounded to nearest, ties to even, at most 65504.
// Grid: lanes / WORKGROUP_SIZE, folded into (x, y) beyond 65535. d and dmin are finite, output_offset a multiple of 8.
// Replaces main, main_vec4 and main_f16_out of the old dequant_shared.wgsl and dequant_subgroup.wgsl, and main and
// main_vec4 of dequant_f16_out.wgsl.

#import lane
#import half
#import q4k

override WORKGROUP_SIZE: u32 = 256;      // a power of two
override USE_SUBGROUPS: bool = false;    // a run's scale and minimum are decoded once a subgroup, for all its lanes
override USE_VEC4: bool = false;         // a lane takes both nibbles of its bytes, so two runs' elements
override F16_OUT: bool = false;          // y is f16, two a word; else f32

struct Params {
  num_blocks: u32,
  output_offset: u32,  // elements of y before the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> quantized: array<vec4u>;  // [num_blocks, 9]
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;   // [output_offset + num_blocks * 256] f16 or f32

// {scale, minimum} of a run, counted over all blocks.
fn scale_of(run: u32) -> vec2f {
  if (run / 8 >= params.num_blocks) { return vec2f(); }
  return q4k_scale(quantized[run / 8 * 9], run % 8);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let size = select(4u, 8u, F16_OUT);    // elements of a store
  let runs = select(1u, 2u, USE_VEC4);   // of a lane
  let lanes = 32 / size;                 // side by side in a run
  var place = at.lane;
  if (USE_SUBGROUPS) { place = subgroup(at) * subgroup_size(at) + sublane(at); }
  let unit = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE + place;
  let run = unit / lanes * runs;
  var scale = array<vec2f, 2>();
  if (USE_SUBGROUPS) {
    // Lane i decodes the i-th run from the first that the subgroup's lanes are in.
    let first = (unit - sublane(at)) / lanes * runs;
    var own = vec2f();
    if (sublane(at) < max(1, subgroup_size(at) / lanes) * runs) { own = scale_of(first + sublane(at)); }
    for (var i = 0u; i < runs; i++) { scale[i] = subgroup_shuffle_vec2f(own, run + i - first); }
  } else {
    for (var i = 0u; i < runs; i++) { scale[i] = scale_of(run + i); }
  }
  let block = run / 8;
  if (block >= params.num_blocks) { return; }
  let first = unit % lanes * size;  // of the run
  let word = run % 8 / 2 * 8 + first / 4;
  let place_of_q = block * 9 + 1 + word / 4;
  let low = quantized[place_of_q][word % 4];
  var high = 0u;
  if (F16_OUT) { high = quantized[place_of_q][word % 4 + 1]; }
  for (var i = 0u; i < runs; i++) {
    let shift = (run + i) % 2 * 4;
    let to = (params.output_offset + (run + i) * 32 + first) / size;
    let e = scale[i].x * nibbles_of(low >> shift) - scale[i].y;
    if (F16_OUT) {
      let f = scale[i].x * nibbles_of(high >> shift) - scale[i].y;
      y[to] = vec4u(pack_halves(to_half(bitcast<vec4u>(e))), pack_halves(to_half(bitcast<vec4u>(f))));
    } else {
      y[to] = bitcast<vec4u>(e);
    }
  }
}
