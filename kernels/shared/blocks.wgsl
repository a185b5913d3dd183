// blocks.wgsl: blocks of 32 weights of a packed tensor (kernels/weight.hpp), of any WEIGHT_TYPE.
//
// Needs: fn weight_type() -> u32, of overrides alone; override ROW_TILE: u32; fn quant(i) -> vec4u and scale_word(i) -> u32, of the
// tensor's quants and scales.

#import half
#import half_value
#import block_bits

// Sixteen int8, by four bits: the levels of IQ4_NL and IQ4_XS, and twice those of MXFP4.
const IQ4_LEVELS = vec4u(0xbfad9881, 0xf6eaddcf, 0x26190d01, 0x71594535);
const E2M1_DOUBLED = vec4u(0x03020100, 0x0c080604, 0xfdfeff00, 0xf4f8fafc);

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
  pair: u32,         // block / 2: of 2 p + 1 no compiler finds p by itself, since 2 p may wrap
}

// Block b of a row, columns 32 b on, in a tensor with row_blocks blocks a row.
fn place_of(row: u32, b: u32, row_blocks: u32) -> Place {
  let first = row / ROW_TILE;
  let tile_row = row % ROW_TILE;
  let block = (first * row_blocks + b) * ROW_TILE + tile_row;
  return Place(block, (first * (row_blocks >> 3) + (b >> 3)) * ROW_TILE + tile_row, b & 7, block >> 1);
}

// Block 2 p + h of a row, in words that tell a compiler what the two of a pair have in common.
fn place_in_pair(row: u32, p: u32, h: u32, row_blocks: u32) -> Place {
  if (ROW_TILE > 1) { return place_of(row, 2 * p + h, row_blocks); }
  let pair = row * (row_blocks >> 1) + p;
  return Place(2 * pair + h, row * (row_blocks >> 3) + (p >> 2), 2 * (p & 3) + h, pair);
}

fn scale_half(i: u32) -> f32 { return half_value(scale_word(i >> 1) >> ((i & 1) << 4)); }

fn nibbles(w: vec4u) -> array<u32, 8> {
  let low = w & vec4u(0x0f0f0f0f);
  let high = (w >> vec4u(4)) & vec4u(0x0f0f0f0f);
  return array<u32, 8>(low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w);
}

// The levels of four nibbles, as bytes.
fn level(nibble: u32, levels: vec4u) -> u32 { return (levels[nibble >> 2] >> ((nibble & 3) << 3)) & 0xff; }
fn levels_of(q: u32, levels: vec4u) -> u32 {
  return level(q & 15, levels) | (level((q >> 8) & 15, levels) << 8) | (level((q >> 16) & 15, levels) << 16) | (level((q >> 24) & 15, levels) << 24);
}
fn levels() -> vec4u {
  if (weight_type() == MXFP4) { return E2M1_DOUBLED; }
  return IQ4_LEVELS;
}

// A super-block's words of scales of Q4_K and Q5_K, from word s on, as many as a part of it needs: {d | dmin << 16, 12 bytes of 6-bit scales
// and minima}
fn six_bit_words(s: u32, part: u32) -> vec4u {
  var words = vec4u(scale_word(s), scale_word(s + 1), scale_word(s + 2), 0);
  if ((part & 4) != 0) { words.w = scale_word(s + 3); }
  return words;
}
// Of these, a block's {scale, offset}.
fn six_bit_scale(s: vec4u, part: u32) -> vec2f {
  let shift = (part & 3) * 8;
  let low = s.y >> shift;
  let mid = s.z >> shift;
  var scale = low & 63;
  var least = mid & 63;
  if ((part & 4) != 0) {
    let high = s.w >> shift;
    scale = (high & 15) | ((low >> 2) & 48);
    least = ((high >> 4) & 15) | ((mid >> 2) & 48);
  }
  return vec2f(half_value(s.x) * f32(scale), -half_value(s.x >> 16) * f32(least));
}

// {scale, offset} of half h, 16 weights, of a block of Q2_K, and the scale of one of Q3_K: of d and the word that has both halves' bytes.
fn q2_k_words(at: Place) -> vec2u { return vec2u(scale_word(at.super_block * 5), scale_word(at.super_block * 5 + 1 + (at.part >> 1))); }
fn q2_k_scale(s: vec2u, at: Place, h: u32) -> vec2f {
  let both = s.y >> (((2 * at.part + h) & 3) * 8);
  return vec2f(half_value(s.x) * f32(both & 15), -half_value(s.x >> 16) * f32((both >> 4) & 15));
}
fn q3_k_words(at: Place) -> vec2u { return vec2u(scale_word(at.super_block * 13 + 12), scale_word(at.super_block * 13 + 8 + (at.part >> 1))); }
fn q3_k_scale(s: vec2u, at: Place, h: u32) -> f32 {
  return half_value(s.x) * f32(extractBits(bitcast<i32>(s.y), ((2 * at.part + h) & 3) * 8, 8));
}

// The scale of a block whose weights are levels, and what it is made of.
fn level_words(at: Place) -> vec2u {
  if (weight_type() == IQ4_XS) { return vec2u(scale_word(2 * at.super_block), scale_word(2 * at.super_block + 1)); }
  return vec2u(scale_word(at.pair), 0);
}
fn level_scale(s: vec2u, at: Place) -> f32 {
  let shift = (at.block & 1) << 4;
  switch (weight_type()) {
    case IQ4_NL: { return half_value(s.x >> shift); }
    case IQ4_XS: {
      let low = (s.y >> (4 * at.part)) & 15;
      return half_value(s.x) * (f32(low | (((s.x >> (16 + 2 * at.part)) & 3) << 4)) - 32);
    }
    default: {  // MXFP4: half of 2^(exponent - 127), subnormal below exponent 2
      let exponent = (s.x >> shift) & 0xff;
      return bitcast<f32>(select((exponent - 1) << 23, 0x00200000u << exponent, exponent < 2));
    }
  }
}

// Whether both halves of a block have the same scale and offset.
fn one_scale() -> bool { return (weight_type() != Q2_K) & (weight_type() != Q3_K) & (weight_type() != Q6_K); }

// A block of an integer type as it lies in memory: its quants, of Q8_0 in two, and the words of scales that it needs, of Q5_K the fifth bits
// in place of more quants. What computes nothing can be under way while something else is computed.
struct Raw { q: vec4u, more: vec4u, s: vec4u }

fn load_raw(at: Place) -> Raw {
  let b = at.block;
  var raw = Raw();
  switch (weight_type()) {
    case Q8_0: {
      raw.q = quant(2 * b);
      raw.more = quant(2 * b + 1);
      raw.s.x = scale_word(at.pair);
    }
    case Q4_0: {
      raw.q = quant(b);
      raw.s.x = scale_word(at.pair);
    }
    case Q4_1: {
      raw.q = quant(b);
      raw.s.x = scale_word(b);
    }
    case Q5_0: {
      raw.q = quant(b);
      let s = at.pair * 3;
      raw.s = vec4u(scale_word(s), scale_word(s + 1 + (b & 1)), 0, 0);
    }
    case Q5_1: {
      raw.q = quant(b);
      raw.s = vec4u(scale_word(2 * b), scale_word(2 * b + 1), 0, 0);
    }
    case Q2_K: {
      raw.q = quant(at.pair);
      raw.s = vec4u(q2_k_words(at), 0, 0);
    }
    case Q3_K: {
      raw.q = quant(at.pair);
      raw.s = vec4u(q3_k_words(at), scale_word(at.super_block * 13 + at.part), 0);
    }
    case Q4_K: {
      raw.q = quant(b);
      raw.s = six_bit_words(at.super_block * 4, at.part);
    }
    case Q5_K: {
      raw.q = quant(b);
      raw.more.x = scale_word(at.super_block * 12 + 4 + at.part);
      raw.s = six_bit_words(at.super_block * 12, at.part);
    }
    case IQ4_NL, IQ4_XS, MXFP4: {
      raw.q = quant(b);
      raw.s = vec4u(level_words(at), 0, 0);
    }
    default: {  // Q6_K; scales: per block {high bits of 16 weights, of 16 more, two int8 scales | d << 16}
      raw.q = quant(b);
      raw.s = vec4u(scale_word(3 * b), scale_word(3 * b + 1), scale_word(3 * b + 2), 0);
    }
  }
  return raw;
}

fn decode_raw(raw: Raw, at: Place) -> Block {
  let b = at.block;
  let s = raw.s;
  let own = s.x >> ((b & 1) << 4);  // of a word with the scales of two blocks
  var block = Block();
  block.q = nibbles(raw.q);
  switch (weight_type()) {
    case Q8_0: {
      block.q = array<u32, 8>(raw.q.x, raw.q.y, raw.q.z, raw.q.w, raw.more.x, raw.more.y, raw.more.z, raw.more.w);
      block.scale = vec2f(half_value(own));
    }
    case Q4_0: {
      block.scale = vec2f(half_value(own));
      block.offset = -8.0 * block.scale;
    }
    case Q4_1: {
      block.scale = vec2f(half_value(s.x));
      block.offset = vec2f(half_value(s.x >> 16));
    }
    case Q5_0: {
      for (var j = 0u; j < 8; j++) { block.q[j] |= fifth_bits(j, s.y); }
      block.scale = vec2f(half_value(own));
      block.offset = -16.0 * block.scale;
    }
    case Q5_1: {
      for (var j = 0u; j < 8; j++) { block.q[j] |= fifth_bits(j, s.y); }
      block.scale = vec2f(half_value(s.x));
      block.offset = vec2f(half_value(s.x >> 16));
    }
    case Q2_K: {
      let words = select(raw.q.xy, raw.q.zw, (b & 1) != 0);
      for (var j = 0u; j < 8; j++) { block.q[j] = pairs_of(words[j >> 2], j); }
      let low = q2_k_scale(s.xy, at, 0);
      let high = q2_k_scale(s.xy, at, 1);
      block.scale = vec2f(low.x, high.x);
      block.offset = vec2f(low.y, high.y);
    }
    case Q3_K: {
      let words = select(raw.q.xy, raw.q.zw, (b & 1) != 0);
      for (var j = 0u; j < 8; j++) { block.q[j] = pairs_of(words[j >> 2], j) | (fifth_bits(j, s.z) >> 2); }
      block.scale = vec2f(q3_k_scale(s.xy, at, 0), q3_k_scale(s.xy, at, 1));
      block.offset = -4.0 * block.scale;
    }
    case Q4_K: {
      let scale = six_bit_scale(s, at.part);
      block.scale = vec2f(scale.x);
      block.offset = vec2f(scale.y);
    }
    case Q5_K: {
      for (var j = 0u; j < 8; j++) { block.q[j] |= fifth_bits(j, raw.more.x); }
      let scale = six_bit_scale(s, at.part);
      block.scale = vec2f(scale.x);
      block.offset = vec2f(scale.y);
    }
    case IQ4_NL, IQ4_XS, MXFP4: {
      for (var j = 0u; j < 8; j++) { block.q[j] = levels_of(block.q[j], levels()); }
      block.scale = vec2f(level_scale(s.xy, at));
    }
    default: {
      for (var j = 0u; j < 4; j++) {
        block.q[j] |= pairs_of(s.x, j) << 4;
        block.q[j + 4] |= pairs_of(s.y, j) << 4;
      }
      let signed = unpack4xI8(s.z);
      block.scale = half_value(s.z >> 16) * vec2f(f32(signed.x), f32(signed.y));
      block.offset = -32.0 * block.scale;
    }
  }
  return block;
}

// A block of an integer type.
fn load_block(at: Place) -> Block { return decode_raw(load_raw(at), at); }

// A block of a float type.
fn load_floats(at: Place) -> array<vec4f, 8> {
  let b = at.block;
  var w = array<vec4f, 8>();
  if (weight_type() == F32) {
    for (var j = 0u; j < 8; j++) { w[j] = bitcast<vec4f>(quant(8 * b + j)); }
  } else {
    for (var j = 0u; j < 4; j++) {
      let q = quant(4 * b + j);
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

fn quant_word(i: u32) -> u32 { return quant(i / 4)[i % 4]; }

// Weights 4 j to 4 j + 3 of a block as floats, whatever its type. Loads few words beyond theirs.
fn decode_four(at: Place, j: u32) -> vec4f {
  let b = at.block;
  switch (weight_type()) {
    case F32: { return bitcast<vec4f>(quant(8 * b + j)); }
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
  var q = 0u;
  if ((weight_type() == Q2_K) | (weight_type() == Q3_K)) {
    q = pairs_of(quant_word(2 * b + (j >> 2)), j);
  } else {
    q = (quant_word(4 * b + (j & 3)) >> (j & 4)) & 0x0f0f0f0f;
  }
  var scale = vec2f();  // and offset
  switch (weight_type()) {
    case Q4_0: { scale = scale_half(b) * vec2f(1, -8); }
    case Q4_1: { scale = vec2f(half_value(scale_word(b)), half_value(scale_word(b) >> 16)); }
    case Q5_0: {
      let s = (b >> 1) * 3;
      q |= fifth_bits(j, scale_word(s + 1 + (b & 1)));
      scale = half_value(scale_word(s) >> ((b & 1) << 4)) * vec2f(1, -16);
    }
    case Q5_1: {
      q |= fifth_bits(j, scale_word(2 * b + 1));
      scale = vec2f(half_value(scale_word(2 * b)), half_value(scale_word(2 * b) >> 16));
    }
    case Q2_K: { scale = q2_k_scale(q2_k_words(at), at, j >> 2); }
    case Q3_K: {
      q |= fifth_bits(j, scale_word(at.super_block * 13 + at.part)) >> 2;
      scale = q3_k_scale(q3_k_words(at), at, j >> 2) * vec2f(1, -4);
    }
    case Q4_K: { scale = six_bit_scale(six_bit_words(at.super_block * 4, at.part), at.part); }
    case Q5_K: {
      q |= fifth_bits(j, scale_word(at.super_block * 12 + 4 + at.part));
      scale = six_bit_scale(six_bit_words(at.super_block * 12, at.part), at.part);
    }
    case IQ4_NL, IQ4_XS, MXFP4: {
      q = levels_of(q, levels());
      scale = vec2f(level_scale(level_words(at), at), 0);
    }
    default: {
      let s = scale_word(3 * b + 2);
      let signed = extractBits(bitcast<i32>(s), (j & 4) * 2, 8);
      q |= pairs_of(scale_word(3 * b + (j >> 2)), j) << 4;
      scale = half_value(s >> 16) * f32(signed) * vec2f(1, -32);
    }
  }
  return scale.x * vec4f(unpack4xI8(q)) + scale.y;
}
