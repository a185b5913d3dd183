// half_value.matrix.wgsl: an f16 as f32 by one instruction. The built-in function may flush subnormals; devices with subgroup matrices keep
// them, as the kernels' tests check there.

// The f16 in the low bits, a finite one. Exact.
fn half_value(bits: u32) -> f32 { return unpack2x16float(bits).x; }
