// lane.subgroups.wgsl: where an invocation stands, on a device with subgroups. Needs: override WORKGROUP_SIZE.
//
// Kernels call the functions below and never name the built-ins: the portable form of this file makes
// every lane a subgroup of its own, so that the same kernel is right without the feature.
struct Group { @builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) count: vec3u }
// Apart from Group: uniformity is judged for a struct as a whole, and these differ from lane to lane.
struct Lane {
  @builtin(local_invocation_index) lane: u32,
  @builtin(subgroup_id) subgroup_id: u32,  // never lane / subgroup_size: the order of lanes is the device's
  @builtin(num_subgroups) num_subgroups: u32,
  @builtin(subgroup_size) size: u32,       // 4 to 128, may differ from dispatch to dispatch
  @builtin(subgroup_invocation_id) invocation: u32,
}
fn sublane(at: Lane) -> u32 { return at.invocation; }
fn subgroup(at: Lane) -> u32 { return at.subgroup_id; }
fn subgroups(at: Lane) -> u32 { return at.num_subgroups; }
fn subgroup_size(at: Lane) -> u32 { return at.size; }
fn subgroup_sum_f32(value: f32) -> f32 { return subgroupAdd(value); }
fn subgroup_sum_vec4f(value: vec4f) -> vec4f { return subgroupAdd(value); }
fn subgroup_max_f32(value: f32) -> f32 { return subgroupMax(value); }
fn subgroup_max_u32(value: u32) -> u32 { return subgroupMax(value); }
fn subgroup_max_vec4f(value: vec4f) -> vec4f { return subgroupMax(value); }
// The values of the first eight lanes, in every lane. Subgroups have 8 lanes at least.
fn first_lanes_vec4f(e: vec4f) -> array<vec4f, 8> {
  // Unsigned, for naga.
  return array<vec4f, 8>(subgroupBroadcast(e, 0u), subgroupBroadcast(e, 1u), subgroupBroadcast(e, 2u), subgroupBroadcast(e, 3u),
                         subgroupBroadcast(e, 4u), subgroupBroadcast(e, 5u), subgroupBroadcast(e, 6u), subgroupBroadcast(e, 7u));
}
fn subgroup_xor_f32(value: f32, mask: u32) -> f32 { return subgroupShuffleXor(value, mask); }
fn subgroup_xor_vec4f(value: vec4f, mask: u32) -> vec4f { return subgroupShuffleXor(value, mask); }
// The value of lane `from_lane` of the subgroup, which must be active. Uniform control flow only.
fn subgroup_shuffle_vec2f(value: vec2f, from_lane: u32) -> vec2f { return subgroupShuffle(value, from_lane); }
