// dequant_q4k.wgsl: y = d * scale * q - dmin * least for Q4_K blocks as they lie in a file.
//
// A block is 256 elements in 144 bytes: d f16, dmin f16, 6-bit scales and minima of eight runs of 32 [12], q [128], two
// runs in the low and the high nibbles of 32 bytes. A workgroup makes as many runs as it has lanes; a lane
// decodes a scale and a minimum for all and makes 32 elements, 16 bytes of y at a time beside its neighbours.
// Exact but for the difference's rounding in f32; f16 is rounded to nearest, ties to even, at most 65504.
// Grid: num_blocks * 8 / WORKGROUP_SIZE, folded into (x, y) beyond 65535. d and dmin are finite, output_offset a multiple of 8.
// Limits: 2^32 - 1 bytes and elements; USE_SUBGROUPS takes a device with subgroups.
// Replaces main, main_vec4 and main_f16_out of the old dequant_shared.wgsl and dequant_subgroup.wgsl, and main and
// main_vec4 of dequant_f16_out.wgsl.

#import lane
#import half
#import unpack
#import q4k

override WORKGROUP_SIZE: u32 = 256;      // a power of two, at least 2
override USE_SUBGROUPS: bool = false;    // scales and minima are shared in a subgroup, not in workgroup memory
override USE_VEC4: bool = false;         // a lane takes both nibbles of its bytes, so two runs' elements
override F16_OUT: bool = false;          // y is f16, two a word; else f32

struct Params {
  num_blocks: u32,
  output_offset: u32,  // elements of y before the first
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> quantized: array<vec4u>;  // [num_blocks, 9]
@group(0) @binding(2) var<storage, read_write> y: array<vec4u>;   // [output_offset + num_blocks * 256] f16 or f32

var<workgroup> scales: array<vec2f, select(WORKGROUP_SIZE, 1, USE_SUBGROUPS)>;

// {scale, minimum} of a run, counted over all blocks; of the last, beyond them.
fn scale_of(run: u32) -> vec2f {
  let block = min(run / 8, params.num_blocks - 1);
  return q4k_scale(quantized[block * 9], run % 8);
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(group: Group, at: Lane) {
  let size = select(4u, 8u, F16_OUT);   // elements of a store
  let runs = select(1u, 2u, USE_VEC4);  // of a lane at a time
  let lanes = 32 / size;                // side by side in a run
  let group_first = (group.id.y * group.count.x + group.id.x) * WORKGROUP_SIZE;
  if (group_first / 8 >= params.num_blocks) { return; }  // uniform: a whole workgroup leaves together

  // The team that shares the scales of as many runs as it has lanes.
  var team = WORKGROUP_SIZE;
  var lane = at.lane;
  var team_first = group_first;
  if (USE_SUBGROUPS) {
    team = min(subgroup_size(at), WORKGROUP_SIZE);
    lane = sublane(at);
    team_first += subgroup(at) * team;
  }
  let own = scale_of(team_first + lane);
  if (!USE_SUBGROUPS) {
    scales[lane] = own;
    workgroupBarrier();
  }
  for (var k = 0u; k < lanes / runs; k++) {
    let unit = k * team + lane;
    let place = unit / lanes * runs;  // of the run in the team's
    let run = team_first + place;
    let word = run % 8 / 2 * 8 + unit % lanes * size / 4;
    let at_q = min(run / 8, params.num_blocks - 1) * 9 + 1 + word / 4;
    let low = quantized[at_q][word % 4];
    var high = 0u;
    if (F16_OUT) { high = quantized[at_q][word % 4 + 1]; }
    for (var i = 0u; i < runs; i++) {
      var scale = vec2f();
      if (USE_SUBGROUPS) { scale = subgroup_shuffle_vec2f(own, place + i); } else { scale = scales[place + i]; }
      let shift = (run + i) % 2 * 4;
      let e = scale.x * nibbles_of(low >> shift) - scale.y;
      let to = params.output_offset / size + (run + i) * lanes + unit % lanes;
      if (run / 8 < params.num_blocks) {
        if (F16_OUT) {
          let f = scale.x * nibbles_of(high >> shift) - scale.y;
          y[to] = vec4u(pack_halves(to_half(bitcast<vec4u>(e))), pack_halves(to_half(bitcast<vec4u>(f))));
        } else {
          y[to] = bitcast<vec4u>(e);
        }
      }
    }
  }
}
