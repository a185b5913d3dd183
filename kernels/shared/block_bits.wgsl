// block_bits.wgsl: the types of packed weights (kernels/weight.hpp), and the bits of their blocks.

const F32 = 0u;
const F16 = 1u;
const BF16 = 2u;
const Q8_0 = 3u;
const Q4_0 = 4u;
const Q4_1 = 5u;
const Q5_0 = 6u;
const Q5_1 = 7u;
const Q2_K = 8u;
const Q3_K = 9u;
const Q4_K = 10u;
const Q5_K = 11u;
const Q6_K = 12u;
const IQ4_NL = 13u;
const IQ4_XS = 14u;
const MXFP4 = 15u;

// The fifth bits of eight words of nibbles: bit i is weight i's.
fn fifth_bits(j: u32, bits: u32) -> u32 {
  let b = bits >> (4 * j);
  return ((b & 1) << 4) | ((b & 2) << 11) | ((b & 4) << 18) | ((b & 8) << 25);
}

// Two bits of the weights 4 j to 4 j + 3 of a block, as bytes.
fn pairs_of(word: u32, j: u32) -> u32 { return (word >> ((j & 3) * 2)) & 0x03030303; }
