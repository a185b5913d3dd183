// turns.wgsl: angles as fractions of a turn in integers, exact at any position; their cosine and sine.
//
// WGSL's own sin and cos may be off by 2^-11, and a position times a frequency in f32 loses low bits.

// The high word of a * b.
fn multiply_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffff) * (b & 0xffff);
  let left = (a >> 16) * (b & 0xffff) + (low >> 16);
  let right = (a & 0xffff) * (b >> 16) + (left & 0xffff);
  return (a >> 16) * (b >> 16) + (left >> 16) + (right >> 16);
}

// position * frequency modulo one turn, in units of 2^-32 turns, rounded down. frequency: turns per position
// as a fraction of 64 bits, the high word first.
fn turns_at(position: u32, frequency: vec2u) -> u32 {
  return position * frequency.x + multiply_high(position, frequency.y);
}

// The cosine and the sine of an angle in units of 2^-32 turns, within 2e-7: Taylor's polynomials within an
// eighth of a turn of the nearest axis, where the first term left out is below 2e-9.
fn cos_sin(turns: u32) -> vec2f {
  let quarter = (turns + 0x20000000) >> 30;
  let x = f32(bitcast<i32>(turns - (quarter << 30))) * 1.4629180792671596e-9;  // 2 pi / 2^32
  let z = x * x;
  let c = 1 + z * (-1.0 / 2 + z * (1.0 / 24 + z * (-1.0 / 720 + z * (1.0 / 40320 - z / 3628800))));
  let s = x + x * z * (-1.0 / 6 + z * (1.0 / 120 + z * (-1.0 / 5040 + z / 362880)));
  switch (quarter) {
    case 1: { return vec2f(-s, c); }
    case 2: { return vec2f(-c, -s); }
    case 3: { return vec2f(s, -c); }
    default: { return vec2f(c, s); }  // 0, and 4 just below a whole turn
  }
}
