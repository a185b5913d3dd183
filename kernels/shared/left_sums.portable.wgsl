// left_sums.portable.wgsl: VECTORS sums over a workgroup in two steps, with a barrier of the caller's between them, and
// another before it is done again; each returned to every lane. Needs: #import lane, reduce; const VECTORS.
//
// Call in uniform control flow only.
var<private> left: array<f32, VECTORS>;

fn leave_sums(values: array<f32, VECTORS>, at: Lane) { left = values; }
fn left_sums(at: Lane) -> array<f32, VECTORS> {
  var sums = left;
  for (var c = 0u; c < VECTORS; c++) { sums[c] = workgroup_sum(sums[c], at); }
  return sums;
}
