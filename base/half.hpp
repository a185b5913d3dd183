// half.hpp: conversions between f32 and the 16-bit float formats (IEEE 754 binary16, bfloat16).
//
// Widening is exact, and inline since decoders do it per element. Narrowing rounds to nearest, ties
// to even. NaNs stay NaNs with the payload bits that fit, so every 16-bit pattern survives a round
// trip. A thread that flushes subnormals to zero gets the same f16 values as any other.
#pragma once
#include <bit>
#include <cstdint>

namespace ms {

inline float f16_to_f32(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t exponent = bits >> 10 & 31u;
  const uint32_t mantissa = bits & 0x3ffu;
  // 112: the difference of the biases, 127 - 15; all ones mean infinity or NaN in both formats.
  const uint32_t wide = (exponent == 31 ? 255u : exponent + 112u) << 23 | mantissa << 13;
  // A subnormal is a count of 2^-24, which f32 holds as a normal number.
  const float magnitude =
      exponent == 0 ? static_cast<float>(mantissa) * 0x1p-24f : std::bit_cast<float>(wide);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
}

inline float bf16_to_f32(uint16_t bits) {
  return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
}

uint16_t f32_to_f16(float value);   // 65520 and beyond give infinity
uint16_t f32_to_bf16(float value);  // beyond the largest bf16 gives infinity

}  // namespace ms
