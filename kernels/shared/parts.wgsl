// parts.wgsl: what workgroups that share a query's keys tell each other, and how the last of them combines it
// (flash-decoding, Dao et al., 2023).
//
// They talk through atomics alone: a word of parts is 0 until it holds something, whose arrival the last one waits for, since
// atomics of different places keep no order; and it leaves all of them 0 again.
// Needs: binding parts: array<atomic<u32>>: sums [rows, heads, splits, head_dim], then {peak, total} [rows, heads, splits, 2],
// then how many have come [rows, heads]; binding out: array<f32>, [rows, heads, head_dim]; params with rows, heads, splits; fn head_dim();
// override WORKGROUP_SIZE; fn keep(i, pairs) and found(i), room in workgroup memory for a {peak, total} of each head of the
// workgroup and split, two at once.
const PATIENCE = 1 << 20;  // rounds of waiting for a word that was sent
const LOWEST = -1e38;      // below any score, and finite when one is subtracted from it

var<workgroup> come: u32;

// Where split `split` of a query's parts keeps its sums, and its peak and total.
fn sums_at(query_head: u32, split: u32) -> u32 { return (query_head * params.splits + split) * head_dim(); }
fn peak_at(query_head: u32, split: u32) -> u32 {
  return sums_at(params.rows * params.heads, 0) + 2 * (query_head * params.splits + split);
}
fn count_at(query_head: u32) -> u32 { return peak_at(params.rows * params.heads, 0) + query_head; }

// -0 stands for 0, which says that there is nothing.
fn put(place: u32, value: f32) {
  let bits = bitcast<u32>(value);
  atomicStore(&parts[place], select(bits, 0x80000000, bits == 0));
}

// Words of parts once they are there, which takes no more than what is under way; leaves zeros. So many at once, since each
// takes its time.
fn take(places: array<u32, 16>) -> array<f32, 16> {
  var bits = array<u32, 16>();
  for (var n = 0; n < PATIENCE; n++) {
    var all_there = true;
    for (var j = 0u; j < 16; j++) { bits[j] = atomicLoad(&parts[places[j]]); }
    for (var j = 0u; j < 16; j++) { all_there = all_there & (bits[j] != 0); }
    if (all_there) { break; }
  }
  var values = array<f32, 16>();
  for (var j = 0u; j < 16; j++) {
    atomicStore(&parts[places[j]], 0);
    values[j] = bitcast<f32>(bits[j]);
  }
  return values;
}

// Once all lanes have put theirs: whether the workgroup is the last of `used`, to every lane. Leaves the count 0.
fn is_last(first_head: u32, used: u32, at: Lane) -> bool {
  workgroupBarrier();
  if (at.lane == 0) { come = atomicAdd(&parts[count_at(first_head)], 1) + 1; }
  if (workgroupUniformLoad(&come) < used) { return false; }
  if (at.lane == 0) { atomicStore(&parts[count_at(first_head)], 0); }
  return true;
}

// The results of the heads from what `used` workgroups have put into parts.
fn combine(first_head: u32, heads: u32, used: u32, at: Lane) {
  let last = heads * used - 1;
  for (var i = 8 * at.lane; i <= last; i += 8 * WORKGROUP_SIZE) {
    var places = array<u32, 16>();
    for (var j = 0u; j < 8; j++) {
      let n = min(i + j, last);
      places[2 * j] = peak_at(first_head + n / used, n % used);
      places[2 * j + 1] = places[2 * j] + 1;
    }
    let pairs = take(places);
    for (var j = 0u; j < 4 && i + 2 * j <= last; j++) {
      keep(i / 2 + j, vec4f(pairs[4 * j], pairs[4 * j + 1], pairs[4 * j + 2], pairs[4 * j + 3]));
    }
  }
  workgroupBarrier();
  // Four elements a lane, a workgroup's width apart, of four parts at once.
  let size = heads * head_dim();
  for (var i = at.lane; i < size; i += 4 * WORKGROUP_SIZE) {
    let own = vec4u(i) + WORKGROUP_SIZE * vec4u(0, 1, 2, 3);
    let elements = select(vec4u(i), own, own < vec4u(size));  // no other lane's: a word is taken once
    let h = elements / head_dim();
    var highest = vec4f(LOWEST);
    for (var s = 0u; s < used; s++) {
      highest = max(highest, vec4f(found(h.x * used + s).x, found(h.y * used + s).x, found(h.z * used + s).x, found(h.w * used + s).x));
    }
    var sum = vec4f();
    var all = vec4f();
    for (var s = 0u; s < used; s += 4) {
      var places = array<u32, 16>();
      for (var j = 0u; j < 16; j++) {
        let e = elements[j >> 2];
        places[j] = sums_at(first_head + h[j >> 2], min(s + (j & 3), used - 1)) + e - h[j >> 2] * head_dim();
      }
      let e = take(places);
      for (var j = 0u; j < 16; j++) {
        if (s + (j & 3) >= used) { continue; }
        let part = found(h[j >> 2] * used + s + (j & 3));
        let weight = exp(part.x - highest[j >> 2]);
        all[j >> 2] += weight * part.y;
        sum[j >> 2] += weight * e[j];
      }
    }
    for (var j = 0u; j < 4; j++) {
      if (i + j * WORKGROUP_SIZE < size) { out[first_head * head_dim() + elements[j]] = select(0.0, sum[j] / all[j], all[j] > 0); }
    }
  }
}
