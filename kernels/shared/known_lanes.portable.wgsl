// known_lanes.portable.wgsl: the same without subgroups. Needs: #import lane.
fn known_subgroup_size(at: Lane) -> u32 { return 1; }
fn known_subgroups(at: Lane) -> u32 { return WORKGROUP_SIZE; }
fn uniform_subgroups(at: Lane) -> u32 { return WORKGROUP_SIZE; }
fn sum_together(value: f32) -> f32 { return value; }
