// splits.wgsl: what workgroups that shared a query's keys have left, put together (flash-decoding, Dao et al., 2023).
//
// Each split of a query's keys leaves softmax(scores) v of its own keys, as f32 or f16, and beside it {peak, total}: its largest score,
// and the sum of exp(score - peak). One without keys leaves zeros, so that nothing waits for totals; the first splits have keys.
// Units of 16 bytes: values [query_heads, splits, head_dim], then {peak, total} [query_heads, splits], two a unit.
// Needs: #import int16; override F16_PARTS: bool; const HEAD_DIM: u32, a multiple of 16; fn part_unit(i) -> vec4u. Constants, since
// what divides by them stands before every load.
struct Splits {
  count: u32,        // of each query head, a multiple of 4
  query_heads: u32,  // in all
}

fn halves_of(two: vec2u) -> vec4f { return vec4f(unpack2x16float(two.x), unpack2x16float(two.y)); }

// Elements 16 n to 16 n + 15 of a split's values.
fn part_values(s: Splits, query_head: u32, split: u32, n: u32) -> Sixteen {
  let first = (query_head * s.count + split) * (HEAD_DIM / 16) + n;
  if (F16_PARTS) {
    let low = part_unit(2 * first);
    let high = part_unit(2 * first + 1);
    return Sixteen(halves_of(low.xy), halves_of(low.zw), halves_of(high.xy), halves_of(high.zw));
  }
  return Sixteen(bitcast<vec4f>(part_unit(4 * first)), bitcast<vec4f>(part_unit(4 * first + 1)), bitcast<vec4f>(part_unit(4 * first + 2)),
                 bitcast<vec4f>(part_unit(4 * first + 3)));
}

fn mixed(a: vec4f, b: vec4f, c: vec4f, d: vec4f, w: vec4f) -> vec4f { return w.x * a + w.y * b + w.z * c + w.w * d; }

// Elements 16 n to 16 n + 15 of a query head's attention; zeros without keys. Four splits at a time, whose loads wait for nothing.
fn combined(s: Splits, query_head: u32, n: u32) -> Sixteen {
  let units = s.query_heads * s.count * (HEAD_DIM / select(4u, 8u, F16_PARTS));
  var peak = -1e38;
  var total = 0.0;
  var sum = Sixteen();
  for (var first = 0u; first < s.count; first += 4) {
    let ends = units + (query_head * s.count + first) / 2;
    let low = bitcast<vec4f>(part_unit(ends));
    let high = bitcast<vec4f>(part_unit(ends + 1));
    let peaks = vec4f(low.xz, high.xz);
    let totals = vec4f(low.yw, high.yw);
    let a = part_values(s, query_head, first, n);
    let b = part_values(s, query_head, first + 1, n);
    let c = part_values(s, query_head, first + 2, n);
    let d = part_values(s, query_head, first + 3, n);
    let highest = max(peak, max(max(peaks.x, peaks.y), max(peaks.z, peaks.w)));
    let fade = exp(peak - highest);
    let w = totals * exp(peaks - highest);
    peak = highest;
    total = total * fade + w.x + w.y + w.z + w.w;
    sum = Sixteen(fade * sum.a + mixed(a.a, b.a, c.a, d.a, w), fade * sum.b + mixed(a.b, b.b, c.b, d.b, w),
                  fade * sum.c + mixed(a.c, b.c, c.c, d.c, w), fade * sum.d + mixed(a.d, b.d, c.d, d.d, w));
    if (totals.w == 0) { break; }
  }
  if (total == 0) { return Sixteen(); }
  let one = 1 / total;
  return Sixteen(one * sum.a, one * sum.b, one * sum.c, one * sum.d);
}
