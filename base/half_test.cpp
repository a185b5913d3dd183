// half_test.cpp: every 16-bit pattern, and every rounding decision at its edge.
#include "base/half.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ms {
namespace {

// The value of a binary16 pattern that is finite, from the definition.
double f16_value(uint32_t bits) {
  const int exponent = bits >> 10 & 31;
  const int mantissa = bits & 1023;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return bits >> 15 ? -magnitude : magnitude;
}

TEST(Half, every_f16_widens_to_its_value_and_comes_back) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float wide = f16_to_f32(static_cast<uint16_t>(bits));
    const bool special = (bits >> 10 & 31) == 31;
    if (!special) {
      ASSERT_EQ(wide, f16_value(bits)) << bits;
      ASSERT_EQ(std::signbit(wide), bits >> 15 != 0) << bits;
    } else if ((bits & 1023) == 0) {
      ASSERT_EQ(wide, bits >> 15 ? -INFINITY : INFINITY) << bits;
    } else {
      ASSERT_TRUE(std::isnan(wide)) << bits;
    }
    ASSERT_EQ(f32_to_f16(wide), bits);
  }
}

TEST(Half, f16_rounds_to_nearest_and_ties_to_even) {
  for (uint32_t bits = 0; bits < 0x7bff; ++bits) {  // each finite value and its successor
    const double low = f16_value(bits);
    const double high = f16_value(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);  // exact: f32 has 13 bits more
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(f32_to_f16(middle), even) << bits;
    ASSERT_EQ(f32_to_f16(-middle), even | 0x8000) << bits;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 0.0f)), bits) << bits;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, INFINITY)), bits + 1) << bits;
  }
}

TEST(Half, f16_overflows_to_infinity_from_65520) {
  EXPECT_EQ(f32_to_f16(std::nextafter(65520.0f, 0.0f)), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::max()), 0xfc00);
  EXPECT_EQ(f32_to_f16(INFINITY), 0x7c00);
}

TEST(Half, tiny_values_become_zeros_with_their_sign) {
  EXPECT_EQ(f32_to_f16(0x1p-25f), 0);  // a tie between 0 and the smallest subnormal
  EXPECT_EQ(f32_to_f16(std::nextafter(0x1p-25f, 1.0f)), 1);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::denorm_min()), 0x8000);
}

TEST(Half, a_nan_stays_a_nan_even_if_its_payload_does_not_fit) {
  const float low_payload = std::bit_cast<float>(0x7f800001u);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(low_payload))));
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(low_payload))));
}

TEST(Half, every_bf16_is_the_upper_half_of_its_f32_and_comes_back) {
  for (uint32_t bits = 0; bits < 65536; ++bits) {
    const float wide = bf16_to_f32(static_cast<uint16_t>(bits));
    ASSERT_EQ(std::bit_cast<uint32_t>(wide), bits << 16);
    ASSERT_EQ(f32_to_bf16(wide), bits);
  }
}

TEST(Half, bf16_rounds_to_nearest_and_ties_to_even) {
  for (uint32_t bits = 0; bits < 0x7f80; ++bits) {
    const uint32_t middle = bits << 16 | 0x8000;
    const uint32_t even = bits % 2 == 0 ? bits : bits + 1;
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle)), even);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle | 0x80000000)), even | 0x8000);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle - 1)), bits);
    ASSERT_EQ(f32_to_bf16(std::bit_cast<float>(middle + 1)), bits + 1);
  }
}

}  // namespace
}  // namespace ms
