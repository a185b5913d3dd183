// half.cpp: the narrowing conversions, by integer arithmetic on the f32 bits.
#include "base/half.hpp"

namespace ms {
namespace {

constexpr uint32_t kInfinity = 0x7f800000;

}  // namespace

uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > kInfinity) {
    const uint32_t payload = magnitude >> 13 & 0x3ffu;
    return sign | 0x7c00u | (payload != 0 ? payload : 0x200u);
  }
  if (magnitude >= std::bit_cast<uint32_t>(65520.0f)) return sign | 0x7c00u;
  if (magnitude < std::bit_cast<uint32_t>(0x1p-14f)) {
    // f32 has a spacing of 2^-24 from 0.5 on: the sum rounds to a count of f16 subnormal steps.
    const float sum = std::bit_cast<float>(magnitude) + 0.5f;
    return sign | (std::bit_cast<uint32_t>(sum) - std::bit_cast<uint32_t>(0.5f));
  }
  magnitude += 0xfffu + (magnitude >> 13 & 1u);  // half a step, less one bit unless the step is odd
  return sign | ((magnitude >> 13) - (112u << 10));
}

uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > kInfinity) {
    const uint32_t top = bits >> 16;
    return top | ((top & 0x7fu) != 0 ? 0u : 0x40u);
  }
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

}  // namespace ms
