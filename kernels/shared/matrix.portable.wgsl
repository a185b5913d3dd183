// matrix.portable.wgsl: what stands in for matrix.matrix.wgsl on devices without subgroup matrices, where nobody calls it.
fn pair_max(e: f32) -> f32 { return e; }
fn pair_sum(e: f32) -> f32 { return e; }

alias Left = u32;
alias Right = u32;
alias Sums = f32;

fn load_left(at: u32, stride: u32) -> Left { return tile[at].x; }
fn load_right_rows(at: u32, stride: u32) -> Right { return tile[at + stride].x; }
fn load_right_columns(at: u32, stride: u32) -> Right { return tile[at + stride].x; }
fn multiply_add(left: Left, right: Right, sums: Sums) -> Sums { return sums + f32(left * right); }
fn store_sums(at: u32, stride: u32, sums: Sums) { tile[at].x = bitcast<u32>(sums); }
fn rounded_halves(e: vec4f) -> vec2u { return vec2u(pack2x16float(e.xy), pack2x16float(e.zw)); }
fn scaled_halves(bytes: u32, bias: f32, scale: f32, offset: f32) -> vec2u {
  return rounded_halves(scale * (vec4f(unpack4xI8(bytes)) - bias) + offset);
}
