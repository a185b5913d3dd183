// int8.wgsl: sixteen activations as int8 with one scale, for INT8_ACTIVATIONS.
struct Int8 {
  q: vec4u,      // element i is byte i, signed
  scale: vec2f,  // {step: element i is step * byte i, step * the bytes' sum}
}

fn to_int8(e: array<vec4f, 4>) -> Int8 {
  let m = max(max(abs(e[0]), abs(e[1])), max(abs(e[2]), abs(e[3])));
  let largest = max(max(m.x, m.y), max(m.z, m.w));
  let step = largest / 127;
  let inverse = select(0.0, 127 / largest, largest > 1e-30);
  var q = vec4u();
  var sum = 0;
  for (var j = 0u; j < 4; j++) {
    let v = vec4i(round(e[j] * inverse));
    q[j] = pack4xI8(v);
    sum += v.x + v.y + v.z + v.w;
  }
  return Int8(q, vec2f(step, step * f32(sum)));
}
