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

fn words_at(places: vec4u) -> vec4u {
  return vec4u(atomicLoad(&parts[places.x]), atomicLoad(&parts[places.y]), atomicLoad(&parts[places.z]), atomicLoad(&parts[places.w]));
}
fn clear_at(places: vec4u) {
  atomicStore(&parts[places.x], 0);
  atomicStore(&parts[places.y], 0);
  atomicStore(&parts[places.z], 0);
  atomicStore(&parts[places.w], 0);
}

// Sixteen words of parts once they are there, which takes no more than what is under way; leaves zeros. So many at once,
// since each takes its time.
struct Places { a: vec4u, b: vec4u, c: vec4u, d: vec4u }
struct Taken { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

fn take(at: Places) -> Taken {
  var w = Places();
  for (var n = 0; n < PATIENCE; n++) {
    w = Places(words_at(at.a), words_at(at.b), words_at(at.c), words_at(at.d));
    if (all(min(min(w.a, w.b), min(w.c, w.d)) != vec4u())) { break; }
  }
  clear_at(at.a);
  clear_at(at.b);
  clear_at(at.c);
  clear_at(at.d);
  return Taken(bitcast<vec4f>(w.a), bitcast<vec4f>(w.b), bitcast<vec4f>(w.c), bitcast<vec4f>(w.d));
}

// Once all lanes have put theirs: whether the workgroup is the last of `used`, to every lane. Leaves the count 0.
fn is_last(first_head: u32, used: u32, at: Lane) -> bool {
  workgroupBarrier();
  if (at.lane == 0) { come = atomicAdd(&parts[count_at(first_head)], 1) + 1; }
  if (workgroupUniformLoad(&come) < used) { return false; }
  if (at.lane == 0) { atomicStore(&parts[count_at(first_head)], 0); }
  return true;
}

// Where two of the {peak, total} are, by heads and splits of a workgroup.
fn ends_at(first_head: u32, used: u32, i: u32, j: u32) -> vec4u {
  let a = peak_at(first_head + i / used, i % used);
  let b = peak_at(first_head + j / used, j % used);
  return vec4u(a, a + 1, b, b + 1);
}

// The {peak, total} of a split, of four elements' heads.
struct Ends { peak: vec4f, total: vec4f }
fn ends_of(heads: vec4u, used: u32, split: u32) -> Ends {
  let a = found(heads.x * used + split);
  let b = found(heads.y * used + split);
  let c = found(heads.z * used + split);
  let d = found(heads.w * used + split);
  return Ends(vec4f(a.x, b.x, c.x, d.x), vec4f(a.y, b.y, c.y, d.y));
}

// The results of the heads from what `used` workgroups have put into parts.
fn combine(first_head: u32, heads: u32, used: u32, at: Lane) {
  let last = heads * used - 1;
  for (var i = 8 * at.lane; i <= last; i += 8 * WORKGROUP_SIZE) {
    let n = min(vec4u(i) + vec4u(0, 2, 4, 6), vec4u(last));
    let m = min(vec4u(i) + vec4u(1, 3, 5, 7), vec4u(last));
    let two = take(Places(ends_at(first_head, used, n.x, m.x), ends_at(first_head, used, n.y, m.y), ends_at(first_head, used, n.z, m.z),
                          ends_at(first_head, used, n.w, m.w)));
    keep(i / 2, two.a);
    if (i + 2 <= last) { keep(i / 2 + 1, two.b); }
    if (i + 4 <= last) { keep(i / 2 + 2, two.c); }
    if (i + 6 <= last) { keep(i / 2 + 3, two.d); }
  }
  workgroupBarrier();
  // Four elements a lane, a workgroup's width apart, of four parts at once.
  let size = heads * head_dim();
  for (var i = at.lane; i < size; i += 4 * WORKGROUP_SIZE) {
    let own = vec4u(i) + WORKGROUP_SIZE * vec4u(0, 1, 2, 3);
    let e = select(vec4u(i), own, own < vec4u(size));  // no other lane's: a word is taken once
    let h = e / head_dim();
    let place = (h * (params.splits - 1)) * head_dim() + e + sums_at(first_head, 0);
    var highest = vec4f(LOWEST);
    for (var s = 0u; s < used; s++) { highest = max(highest, ends_of(h, used, s).peak); }
    var sum = vec4f();
    var all = vec4f();
    for (var s = 0u; s < used; s += 4) {
      let split = min(vec4u(s) + vec4u(0, 1, 2, 3), vec4u(used - 1)) * head_dim();
      let part = take(Places(place + split.x, place + split.y, place + split.z, place + split.w));
      for (var j = 0u; j < min(4, used - s); j++) {
        let ends = ends_of(h, used, s + j);
        let w = exp(ends.peak - highest);
        all += w * ends.total;
        sum += w * select(select(part.a, part.b, j == 1), select(part.c, part.d, j == 3), j >= 2);
      }
    }
    let result = select(vec4f(), sum / all, all > vec4f());
    let to = first_head * head_dim();
    out[to + own.x] = result.x;
    if (own.y < size) { out[to + own.y] = result.y; }
    if (own.z < size) { out[to + own.z] = result.z; }
    if (own.w < size) { out[to + own.w] = result.w; }
  }
}
