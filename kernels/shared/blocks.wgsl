// blocks.wgsl: blocks of 32 weights of a packed tensor (kernels/weight.hpp), of any WEIGHT_TYPE.
//
// Needs: fn weight_type() -> u32, of overrides alone; override ROW_TILE: u32; var<storage, read> quants: array<vec4u>;
// var<storage, read> scales: array<u32>.

#import half

const F32 = 0u;
const F16 = 1u;
const BF16 = 2u;
const Q8_0 = 3u;
const Q4_0 = 4u;
const Q4_1 = 5u;
const Q4_K = 10u;
const Q6_K = 12u;

// Integer weights: weight i is scale[i / 16] * byte i of q (signed) + offset[i / 16].
struct Block {
  q: array<u32, 8>,
  scale: vec2f,
  offset: vec2f,
}

// Where a block of a row is. Kernels need not know the layout.
struct Place {
  block: u32,        // counted from the tensor's start
  super_block: u32,  // its super-block of 8
  part: u32,         // its place in that
}

// Block b of a row, columns 32 b on, in a tensor with row_blocks blocks a row.
fn place_of(row: u32, b: u32, row_blocks: u32) -> Place {
  let first = row / ROW_TILE;
  let tile_row = row % ROW_TILE;
  return Place((first * row_blocks + b) * ROW_TILE + tile_row, (first * (row_blocks >> 3) + (b >> 3)) * ROW_TILE + tile_row, b & 7);
}

fn scale_half(i: u32) -> f32 { return half_to_f32(scales[i >> 1] >> ((i & 1) << 4)); }

fn nibbles(w: vec4u) -> array<u32, 8> {
  let low = w & vec4u(0x0f0f0f0f);
  let high = (w >> vec4u(4)) & vec4u(0x0f0f0f0f);
  return array<u32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
}

// A block's {scale, offset}. scales: per 8 blocks {d | dmin << 16, 12 bytes of 6-bit scales and minima}
fn q4_k_scale(at: Place) -> vec2f {
  let s = at.super_block * 4;
  let d = scales[s];
  let shift = (at.part & 3) * 8;
  let low = scales[s + 1] >> shift;
  let mid = scales[s + 2] >> shift;
  var scale = low & 63;
  var least = mid & 63;
  if ((at.part & 4) != 0) {
    let high = scales[s + 3] >> shift;
    scale = (high & 15) | ((low >> 2) & 48);
    least = ((high >> 4) & 15) | ((mid >> 2) & 48);
  }
  return vec2f(half_to_f32(d) * f32(scale), -half_to_f32(d >> 16) * f32(least));
}

// A block of an integer type.
fn load_block(at: Place) -> Block {
  let b = at.block;
  var block = Block();
  switch (weight_type()) {
    case Q8_0: {
      let a = quants[2 * b];
      let c = quants[2 * b + 1];
      block.q = array<u32, 8>(a.x, a.y, a.z, a.w, c.x, c.y, c.z, c.w);
      block.scale = vec2f(scale_half(b));
    }
    case Q4_0: {
      block.q = nibbles(quants[b]);
      block.scale = vec2f(scale_half(b));
      block.offset = -8.0 * block.scale;
    }
    case Q4_1: {
      block.q = nibbles(quants[b]);
      let s = scales[b];
      block.scale = vec2f(half_to_f32(s));
      block.offset = vec2f(half_to_f32(s >> 16));
    }
    case Q4_K: {
      block.q = nibbles(quants[b]);
      let s = q4_k_scale(at);
      block.scale = vec2f(s.x);
      block.offset = vec2f(s.y);
    }
    default: {  // Q6_K; scales: per block {high bits of 16 weights, of 16 more, two int8 scales | d << 16}
      block.q = nibbles(quants[b]);
      let high = vec2u(scales[3 * b], scales[3 * b + 1]);
      for (var j = 0u; j < 4; j++) {
        block.q[j] |= ((high.x >> (2 * j)) & 0x03030303) << 4;
        block.q[j + 4] |= ((high.y >> (2 * j)) & 0x03030303) << 4;
      }
      let s = scales[3 * b + 2];
      let signed = unpack4xI8(s);
      block.scale = half_to_f32(s >> 16) * vec2f(f32(signed.x), f32(signed.y));
      block.offset = -32.0 * block.scale;
    }
  }
  return block;
}

// A block of a float type.
fn load_floats(at: Place) -> array<vec4f, 8> {
  let b = at.block;
  var w = array<vec4f, 8>();
  if (weight_type() == F32) {
    for (var j = 0u; j < 8; j++) { w[j] = bitcast<vec4f>(quants[8 * b + j]); }
  } else {
    for (var j = 0u; j < 4; j++) {
      let q = quants[4 * b + j];
      if (weight_type() == F16) {
        w[2 * j] = vec4f(unpack2x16float(q.x), unpack2x16float(q.y));
        w[2 * j + 1] = vec4f(unpack2x16float(q.z), unpack2x16float(q.w));
      } else {
        w[2 * j] = vec4f(bf16_pair(q.x), bf16_pair(q.y));
        w[2 * j + 1] = vec4f(bf16_pair(q.z), bf16_pair(q.w));
      }
    }
  }
  return w;
}

fn bf16_pair(word: u32) -> vec2f { return bitcast<vec2f>(vec2u(word << 16, word & 0xffff0000)); }

// A block as floats, whatever its type.
fn decode_block(at: Place) -> array<vec4f, 8> {
  if (weight_type() <= BF16) { return load_floats(at); }
  let block = load_block(at);
  var w = array<vec4f, 8>();
  for (var j = 0u; j < 4; j++) {
    w[j] = block.scale.x * vec4f(unpack4xI8(block.q[j])) + block.offset.x;
    w[j + 4] = block.scale.y * vec4f(unpack4xI8(block.q[j + 4])) + block.offset.y;
  }
  return w;
}

fn quant_word(i: u32) -> u32 { return quants[i / 4][i % 4]; }

// Weights 4 j to 4 j + 3 of a block as floats, whatever its type. Loads few words beyond theirs.
fn decode_four(at: Place, j: u32) -> vec4f {
  let b = at.block;
  switch (weight_type()) {
    case F32: { return bitcast<vec4f>(quants[8 * b + j]); }
    case F16: {
      let word = 16 * b + 2 * j;
      return vec4f(unpack2x16float(quant_word(word)), unpack2x16float(quant_word(word + 1)));
    }
    case BF16: {
      let word = 16 * b + 2 * j;
      return vec4f(bf16_pair(quant_word(word)), bf16_pair(quant_word(word + 1)));
    }
    case Q8_0: { return scale_half(b) * vec4f(unpack4xI8(quant_word(8 * b + j))); }
    default: {}
  }
  var q = (quant_word(4 * b + (j & 3)) >> (j & 4)) & 0x0f0f0f0f;
  var scale = vec2f();  // and offset
  switch (weight_type()) {
    case Q4_0: { scale = scale_half(b) * vec2f(1, -8); }
    case Q4_1: { scale = vec2f(half_to_f32(scales[b]), half_to_f32(scales[b] >> 16)); }
    case Q4_K: { scale = q4_k_scale(at); }
    default: {
      let s = scales[3 * b + 2];
      let signed = extractBits(bitcast<i32>(s), (j & 4) * 2, 8);
      q |= ((scales[3 * b + (j >> 2)] >> (2 * (j & 3))) & 0x03030303) << 4;
      scale = half_to_f32(s >> 16) * f32(signed) * vec2f(1, -32);
    }
  }
  return scale.x * vec4f(unpack4xI8(q)) + scale.y;
}
