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

// The same in two steps, with a barrier of the caller's between them, and once in a kernel.
var<private> left: f32;
fn leave_sum(value: f32, at: Lane) { left = value; }
fn left_sum(at: Lane) -> f32 { return workgroup_sum(left, at); }

fn workgroup_max(value: f32, at: Lane) -> f32 {
  reduce_scratch[at.lane] = value;
  for (var stride = WORKGROUP_SIZE / 2; stride > 0; stride /= 2) {
    workgroupBarrier();
    if (at.lane < stride) { reduce_scratch[at.lane] = max(reduce_scratch[at.lane], reduce_scratch[at.lane + stride]); }
  }
  return workgroupUniformLoad(&reduce_scratch[0]);
}
