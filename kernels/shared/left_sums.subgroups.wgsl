// left_sums.subgroups.wgsl: VECTORS sums over a workgroup in two steps, with a barrier of the caller's between them, and once in a
// kernel; each returned to every lane. Needs: #import lane; const VECTORS.
//
// Call in uniform control flow only.
var<workgroup> left: array<array<f32, VECTORS>, WORKGROUP_SIZE / 4 + 1>;  // 4: the smallest subgroup

fn leave_sums(values: array<f32, VECTORS>, at: Lane) {
  for (var c = 0u; c < VECTORS; c++) {
    let partial = subgroup_sum_f32(values[c]);
    if (sublane(at) == 0) { left[subgroup(at)][c] = partial; }
  }
}
fn left_sums(at: Lane) -> array<f32, VECTORS> {
  var sums = array<f32, VECTORS>();
  for (var c = 0u; c < VECTORS; c++) {
    for (var i = sublane(at); i < subgroups(at); i += subgroup_size(at)) { sums[c] += left[i][c]; }
    sums[c] = subgroup_sum_f32(sums[c]);
  }
  return sums;
}
