// left_sums.subgroups.wgsl: VECTORS sums over a workgroup in two steps, with a barrier of the caller's between them, and
// another before it is done again; each returned to every lane. Needs: #import lane, known_lanes; const VECTORS.
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
    for (var i = 0u; i < known_subgroups(at); i += known_subgroup_size(at)) {
      let from_subgroup = min(i + sublane(at), known_subgroups(at) - 1);  // no lane leaves the loop before others
      sums[c] += select(0, left[from_subgroup][c], from_subgroup == i + sublane(at));
    }
    sums[c] = sum_together(sums[c]);
  }
  return sums;
}
