// matrix.matrix.wgsl: products of 16 x 16 matrices of f16, summed in f32, that a subgroup holds between its lanes.
//
// Kernels call the functions below in uniform control flow and never name the built-ins: without the feature the portable
// form stands in for them.
// Needs: var<workgroup> tile: array<vec4u, …>, where a row is `stride` of its vec4u, eight f16 or four f32 each.

// The subgroup of the workgroup, to be asked for before all else, and the lane of it, of 32.
fn matrix_subgroup(at: Lane) -> u32 { return subgroup(at); }
fn matrix_lane(at: Lane) -> u32 { return sublane(at); }

// Whether a subgroup is beyond so many, which alone have something to do: in portable form all do it.
fn matrix_beyond(own: u32, count: u32) -> bool { return own >= count; }

// What lane ^ mask of the subgroup has; all lanes of the workgroup must ask. A mask below 32.
fn matrix_xor_f32(e: f32, mask: u32) -> f32 { return subgroupShuffleXor(e, mask); }
fn matrix_xor_vec4u(e: vec4u, mask: u32) -> vec4u { return subgroupShuffleXor(e, mask); }

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sums = subgroup_matrix_result<f32, 16, 16>;

fn load_left(at: u32, stride: u32) -> Left { return subgroupMatrixLoad<Left, row_major>(&tile, at, stride); }
fn load_right_rows(at: u32, stride: u32) -> Right { return subgroupMatrixLoad<Right, row_major>(&tile, at, stride); }
fn load_right_columns(at: u32, stride: u32) -> Right { return subgroupMatrixLoad<Right, col_major>(&tile, at, stride); }
fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums { return subgroupMatrixMultiplyAccumulate(left, right, sums); }
fn store_sums(at: u32, stride: u32, sums: Sums) { subgroupMatrixStore<row_major>(&tile, at, sums, stride); }

// Four f32 rounded to f16; beyond its range, +-65504.
fn rounded_halves(e: vec4f) -> vec2u { return bitcast<vec2u>(clamp(vec4<f16>(e), vec4<f16>(-65504), vec4<f16>(65504))); }

// The same of what is within its range.
fn halves(e: vec4f) -> vec2u { return bitcast<vec2u>(vec4<f16>(e)); }

// Four unsigned bytes, less a whole number `bias`, times a scale, plus an offset, as f16, of the f16 bits of both and for results within
// f16's range: of bytes 0 and 2, then of 1 and 3. A byte below 1024 as f16 bits is 1024 and the byte.
// `mask` is 0x00ff00ff, but nothing that a compiler knows: NVIDIA's makes one instruction of a register and a constant, two of two constants.
fn scaled_halves(bytes: u32, mask: u32, bias: f32, scales: vec2u) -> vec2u {
  let zero = vec2<f16>(f16(1024 + bias));
  let even = bitcast<vec2<f16>>((bytes & mask) | 0x64006400u) - zero;
  let odd = bitcast<vec2<f16>>(((bytes >> 8) & mask) | 0x64006400u) - zero;
  return vec2u(scaled(even, scales), scaled(odd, scales));
}
fn scaled(e: vec2<f16>, scales: vec2u) -> u32 {
  return bitcast<u32>(fma(e, bitcast<vec2<f16>>(scales.x * 0x10001u), bitcast<vec2<f16>>(scales.y * 0x10001u)));
}

// The same of the low nibbles of four bytes, and of the high ones, which need no shift: they count in sixteens. `mask` is 0x000f000f.
fn scaled_nibbles(word: u32, mask: u32, bias: f32, scales: vec2u) -> array<vec2u, 2> {
  let zero = vec2<f16>(f16(1024 + bias));
  let sixteenth = vec2<f16>(0.0625h);
  let high_zero = vec2<f16>(f16(64 + bias));
  let odd = word >> 8;
  return array<vec2u, 2>(
      vec2u(scaled(bitcast<vec2<f16>>((word & mask) | 0x64006400u) - zero, scales),
            scaled(bitcast<vec2<f16>>((odd & mask) | 0x64006400u) - zero, scales)),
      vec2u(scaled(fma(bitcast<vec2<f16>>((word & (mask << 4)) | 0x64006400u), sixteenth, -high_zero), scales),
            scaled(fma(bitcast<vec2<f16>>((odd & (mask << 4)) | 0x64006400u), sixteenth, -high_zero), scales)));
}
