// reduce.subgroups.wgsl: workgroup-wide sums and maxima, each returned to every lane. Needs: #import lane.
//
// Call in uniform control flow only; may be called again.
var<workgroup> reduce_scratch: array<f32, WORKGROUP_SIZE / 4 + 1>;  // 4: the smallest subgroup

fn workgroup_sum(value: f32, at: Lane) -> f32 {
  let partial = subgroup_sum_f32(value);
  if (sublane(at) == 0) { reduce_scratch[subgroup(at)] = partial; }
  workgroupBarrier();
  if (subgroup(at) == 0) {
    var total = 0.0;
    for (var i = sublane(at); i < subgroups(at); i += subgroup_size(at)) { total += reduce_scratch[i]; }
    total = subgroup_sum_f32(total);
    if (sublane(at) == 0) { reduce_scratch[0] = total; }
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}

fn workgroup_max(value: f32, at: Lane) -> f32 {
  let partial = subgroup_max_f32(value);
  if (sublane(at) == 0) { reduce_scratch[subgroup(at)] = partial; }
  workgroupBarrier();
  if (subgroup(at) == 0) {
    var best = reduce_scratch[0];
    for (var i = sublane(at); i < subgroups(at); i += subgroup_size(at)) { best = max(best, reduce_scratch[i]); }
    best = subgroup_max_f32(best);
    if (sublane(at) == 0) { reduce_scratch[0] = best; }
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}
