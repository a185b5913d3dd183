// order.wgsl: logits as u32 keys in the order of sampling, and the largest key of a workgroup.
//
// Needs: #import lane.

// Larger logit, larger key; 0 for what is never sampled: NaN and minus infinity. Both zeros are one key.
// By bits, since compilers may assume that there is no NaN.
fn key_of(logit: f32) -> u32 {
  let bits = bitcast<u32>(logit);
  let magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000 || bits == 0xff800000) { return 0; }
  if (magnitude == 0) { return 0x80000000; }
  return select(bits | 0x80000000, ~bits, bits > 0x7fffffff);
}

// The inverse, within the finite numbers: 0 gives the smallest f32, plus infinity the largest.
fn logit_of(key: u32) -> f32 {
  let finite = clamp(key, 0x00800000u, 0xff7fffffu);
  return bitcast<f32>(select(~finite, finite & 0x7fffffff, finite > 0x7fffffff));
}

// cap * tanh(logit / cap); cap 0: the logit itself.
fn softcap(logit: f32, cap: f32) -> f32 {
  if (cap == 0) { return logit; }
  return cap * tanh(clamp(logit / cap, -20.0, 20.0));  // tanh(20) is 1 in f32; beyond it may overflow
}

var<workgroup> largest_found: atomic<u32>;
var<workgroup> largest_result: u32;

// Returned to every lane. Call in uniform control flow only; may be called again.
fn workgroup_largest(value: u32, at: Lane) -> u32 {
  let partial = subgroup_max_u32(value);
  if (at.lane == 0) { atomicStore(&largest_found, 0); }
  workgroupBarrier();
  if (sublane(at) == 0) { atomicMax(&largest_found, partial); }
  workgroupBarrier();
  if (at.lane == 0) { largest_result = atomicLoad(&largest_found); }
  return workgroupUniformLoad(&largest_result);
}
