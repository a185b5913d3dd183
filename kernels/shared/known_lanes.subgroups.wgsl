// known_lanes.subgroups.wgsl: the same where subgroups may have any size. Needs: #import lane.
var<workgroup> shared_count: u32;

fn known_subgroup_size(at: Lane) -> u32 { return subgroup_size(at); }
fn known_subgroups(at: Lane) -> u32 { return subgroups(at); }

// The device's number of subgroups, uniform to it, but to Tint only like this.
fn uniform_subgroups(at: Lane) -> u32 {
  if (at.lane == 0) { shared_count = subgroups(at); }
  return workgroupUniformLoad(&shared_count);
}

fn sum_together(value: f32) -> f32 { return subgroup_sum_f32(value); }
