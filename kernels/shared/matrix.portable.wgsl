// matrix.portable.wgsl: what matrix.matrix.wgsl does, slowly, for tests on devices without subgroup matrices: engines call it nowhere.
//
// Here 32 lanes in a row are a subgroup. Of a product a lane has a row's eight columns, and to multiply it that row of the left matrix; a right
// matrix is where it lies in the tile, and must lie there until it is multiplied.

#import half

var<private> local: u32;  // the lane, of the workgroup

fn matrix_subgroup(at: Lane) -> u32 {
  local = at.lane;
  return local / 32;
}
fn matrix_lane(at: Lane) -> u32 { return at.lane % 32; }

fn matrix_beyond(own: u32, count: u32) -> bool { return false; }

var<workgroup> exchanged: array<u32, max(256, WORKGROUP_SIZE)>;  // attention_prefill has more lanes than it says
fn of_lane(e: u32, lane: u32) -> u32 {
  workgroupBarrier();
  exchanged[local] = e;
  workgroupBarrier();
  return exchanged[lane];
}
fn matrix_xor_f32(e: f32, mask: u32) -> f32 { return bitcast<f32>(of_lane(bitcast<u32>(e), local ^ mask)); }
fn matrix_xor_vec4u(e: vec4u, mask: u32) -> vec4u {
  let other = local ^ mask;
  return vec4u(of_lane(e.x, other), of_lane(e.y, other), of_lane(e.z, other), of_lane(e.w, other));
}

struct Right { at: u32, stride: u32, rows: bool }
alias Left = array<vec4u, 2>;
alias Sums = array<vec4f, 2>;

fn eight_halves(e: vec4u) -> array<vec4f, 2> {
  return array<vec4f, 2>(vec4f(unpack2x16float(e.x), unpack2x16float(e.y)), vec4f(unpack2x16float(e.z), unpack2x16float(e.w)));
}
fn load_left(at: u32, stride: u32) -> Left {
  let row = at + local % 32 / 2 * stride;
  return Left(tile[row], tile[row + 1]);
}
fn load_right_rows(at: u32, stride: u32) -> Right { return Right(at, stride, true); }
fn load_right_columns(at: u32, stride: u32) -> Right { return Right(at, stride, false); }
fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums {
  var result = sums;
  for (var half = 0u; half < 2; half++) {
    let e = eight_halves(left[half]);
    for (var i = 0u; i < 8; i++) {
      if (right.rows) {
        let b = eight_halves(tile[right.at + (8 * half + i) * right.stride + local % 2]);
        for (var j = 0u; j < 2; j++) { result[j] += e[i / 4][i % 4] * b[j]; }
      } else {
        let b = eight_halves(tile[right.at + (local % 2 * 8 + i) * right.stride + half]);
        result[i / 4][i % 4] += dot(e[0], b[0]) + dot(e[1], b[1]);
      }
    }
  }
  return result;
}
fn store_sums(at: u32, stride: u32, sums: Sums) {
  let first = at + local % 32 / 2 * stride + local % 2 * 2;
  for (var j = 0u; j < 2; j++) { tile[first + j] = bitcast<vec4u>(sums[j]); }
}

fn halves(e: vec4f) -> vec2u { return vec2u(pack2x16float(e.xy), pack2x16float(e.zw)); }
fn rounded_halves(e: vec4f) -> vec2u { return halves(clamp(e, vec4f(-65504), vec4f(65504))); }
fn scaled_halves(bytes: u32, mask: u32, bias: f32, scales: vec2u) -> vec2u {
  return halves(half_to_f32(scales.x) * (vec4f(unpack4xU8(bytes).xzyw) - bias) + half_to_f32(scales.y));
}
fn scaled_nibbles(word: u32, mask: u32, bias: f32, scales: vec2u) -> array<vec2u, 2> {
  return array<vec2u, 2>(scaled_halves(word & 0x0f0f0f0fu, mask, bias, scales), scaled_halves((word >> 4) & 0x0f0f0f0fu, mask, bias, scales));
}
