// lane.portable.wgsl: where an invocation stands, on a device without subgroups: each lane is a subgroup of
// one. Needs: override WORKGROUP_SIZE.
struct Group { @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u }
struct Lane { @builtin(local_invocation_index) lane: u32 }
fn sublane(at: Lane) -> u32 { return 0; }
fn subgroup(at: Lane) -> u32 { return at.lane; }
fn subgroups(at: Lane) -> u32 { return WORKGROUP_SIZE; }
fn subgroup_size(at: Lane) -> u32 { return 1; }
fn subgroup_sum_f32(value: f32) -> f32 { return value; }
fn subgroup_sum_vec4f(value: vec4f) -> vec4f { return value; }
fn subgroup_max_f32(value: f32) -> f32 { return value; }
fn subgroup_max_u32(value: u32) -> u32 { return value; }
fn subgroup_max_vec4f(value: vec4f) -> vec4f { return value; }
fn first_lanes_vec4f(e: vec4f) -> array<vec4f, 8> { return array<vec4f, 8>(e, e, e, e, e, e, e, e); }  // for no one
fn subgroup_xor_f32(value: f32, mask: u32) -> f32 { return value; }
fn subgroup_xor_vec4f(value: vec4f, mask: u32) -> vec4f { return value; }
fn subgroup_shuffle_vec2f(value: vec2f, from_lane: u32) -> vec2f { return value; }
