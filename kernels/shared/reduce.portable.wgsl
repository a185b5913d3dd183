// reduce.portable.wgsl: workgroup-wide sums and maxima, each returned to every lane. Needs: #import lane,
// WORKGROUP_SIZE a power of two.
//
// Call in uniform control flow only; may be called again.
var<workgroup> reduce_scratch: array<f32, WORKGROUP_SIZE>;

fn workgroup_sum(value: f32, at: Lane) -> f32 {
  reduce_scratch[at.lane] = value;
  for (var stride = WORKGROUP_SIZE / 2; stride > 0; stride /= 2) {
    workgroupBarrier();
    if (at.lane < stride) { reduce_scratch[at.lane] += reduce_scratch[at.lane + stride]; }
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}

fn workgroup_max(value: f32, at: Lane) -> f32 {
  reduce_scratch[at.lane] = value;
  for (var stride = WORKGROUP_SIZE / 2; stride > 0; stride /= 2) {
    workgroupBarrier();
    if (at.lane < stride) { reduce_scratch[at.lane] = max(reduce_scratch[at.lane], reduce_scratch[at.lane + stride]); }
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}
