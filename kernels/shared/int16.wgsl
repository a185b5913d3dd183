// int16.wgsl: sixteen activations as integers of 16 bits with one scale, for INT16_ACTIVATIONS.
//
// In two bytes each, since WGSL multiplies integers by fours of bytes (dot4I8Packed). Products with integer weights are then exact, and
// what is rounded is 1/65,000 of the largest of sixteen: as near to f32 as sums in another order. One byte alone would leave 1/254.
struct Sixteen { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

struct Int16 {
  high: vec4u,   // element i is step * (256 * byte i of high + byte i of low), both signed
  low: vec4u,
  scale: vec2f,  // {step, step * the sum of the integers}
}

const LARGEST_INT16 = 32512.0;  // 127 * 256: as far as the bytes reach
// 1.5 * 2^23, where a float's last bit is 1: a sum with it is rounded as round() does, to its low bits. NVIDIA's round is slow.
const ROUNDER = 12582912.0;

fn rounded4(e: vec4f) -> vec4u { return bitcast<vec4u>(e + ROUNDER); }
// The lowest bytes of four integers in a word, and the next higher ones, rounded. Without pack4xU8: it masks what it is about to shift out.
fn low_bytes(e: vec4u) -> u32 { return (e.x & 0xff) | ((e.y << 8) & 0xff00) | ((e.z << 16) & 0xff0000) | (e.w << 24); }
fn high_bytes(e: vec4u) -> u32 {
  let r = e + 128;
  return ((r.x >> 8) & 0xff) | (r.y & 0xff00) | ((r.z << 8) & 0xff0000) | ((r.w << 16) & 0xff000000);
}
fn sum_of_bytes(q: vec4u) -> i32 {
  let one = 0x01010101u;
  return dot4I8Packed(q.x, one) + dot4I8Packed(q.y, one) + dot4I8Packed(q.z, one) + dot4I8Packed(q.w, one);
}
fn scale_of(step: f32, high: vec4u, low: vec4u) -> vec2f { return vec2f(step, step * f32(256 * sum_of_bytes(high) + sum_of_bytes(low))); }

fn to_int16(e: Sixteen) -> Int16 {
  let m = max(max(abs(e.a), abs(e.b)), max(abs(e.c), abs(e.d)));
  let largest = max(max(m.x, m.y), max(m.z, m.w));
  let inverse = select(0.0, LARGEST_INT16 / largest, largest > 1e-30);
  let a = rounded4(e.a * inverse);
  let b = rounded4(e.b * inverse);
  let c = rounded4(e.c * inverse);
  let d = rounded4(e.d * inverse);
  let high = vec4u(high_bytes(a), high_bytes(b), high_bytes(c), high_bytes(d));
  let low = vec4u(low_bytes(a), low_bytes(b), low_bytes(c), low_bytes(d));
  return Int16(high, low, scale_of(largest / LARGEST_INT16, high, low));
}

// Sixteen integers times sixteen signed bytes.
fn dot_int16(w: vec4u, high: vec4u, low: vec4u) -> i32 {
  return 256 * (dot4I8Packed(w.x, high.x) + dot4I8Packed(w.y, high.y) + dot4I8Packed(w.z, high.z) + dot4I8Packed(w.w, high.w)) +
         dot4I8Packed(w.x, low.x) + dot4I8Packed(w.y, low.y) + dot4I8Packed(w.z, low.z) + dot4I8Packed(w.w, low.w);
}
