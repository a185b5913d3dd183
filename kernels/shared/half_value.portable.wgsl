// half_value.portable.wgsl: an f16 as f32, exact on every device. Needs: #import half.
fn half_value(bits: u32) -> f32 { return half_to_f32(bits); }
