// known_lanes.fixed.wgsl: what of lane.wgsl is a constant on a device whose subgroups all have SUBGROUP_SIZE lanes, a constant of the
// prelude: loops over subgroups get a known end, and nobody need tell the others how many there are.
// Needs: #import lane; override WORKGROUP_SIZE.
fn known_subgroup_size(at: Lane) -> u32 { return SUBGROUP_SIZE; }
fn known_subgroups(at: Lane) -> u32 { return max(1, WORKGROUP_SIZE / SUBGROUP_SIZE); }

// The same in uniform control flow only, and uniform to Tint.
fn uniform_subgroups(at: Lane) -> u32 { return max(1, WORKGROUP_SIZE / SUBGROUP_SIZE); }

// A sum over all lanes of the subgroup: sums of several values then overlap, where subgroupAdd asks for each who is there. In uniform
// control flow only.
fn sum_together(value: f32) -> f32 {
  var sum = value;
  for (var mask = min(SUBGROUP_SIZE, WORKGROUP_SIZE) / 2; mask > 0; mask /= 2) { sum += subgroupShuffleXor(sum, mask); }
  return sum;
}
