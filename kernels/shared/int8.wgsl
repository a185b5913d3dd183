// int8.wgsl: sixteen activations as int8 with one scale, for INT8_ACTIVATIONS.
struct Sixteen { a: vec4f, b: vec4f, c: vec4f, d: vec4f }

struct Int8 {
  q: vec4u,      // element i is byte i, signed
  scale: vec2f,  // {step: element i is step * byte i, step * the bytes' sum}
}

// 1.5 * 2^23, where a float's last bit is 1: a sum with it is rounded as round() does, to its low byte. NVIDIA's round is slow.
const ROUNDER = 12582912.0;
fn four_bytes(e: vec4f) -> u32 { return pack4xU8(bitcast<vec4u>(e + ROUNDER)); }

fn to_int8(e: Sixteen) -> Int8 {
  let m = max(max(abs(e.a), abs(e.b)), max(abs(e.c), abs(e.d)));
  let largest = max(max(m.x, m.y), max(m.z, m.w));
  let step = largest / 127;
  let inverse = select(0.0, 127 / largest, largest > 1e-30);
  let q = vec4u(four_bytes(e.a * inverse), four_bytes(e.b * inverse), four_bytes(e.c * inverse), four_bytes(e.d * inverse));
  let sum = dot4I8Packed(q.x, 0x01010101) + dot4I8Packed(q.y, 0x01010101) + dot4I8Packed(q.z, 0x01010101) + dot4I8Packed(q.w, 0x01010101);
  return Int8(q, vec2f(step, step * f32(sum)));
}
