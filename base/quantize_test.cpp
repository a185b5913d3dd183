// quantize_test.cpp: the error of decode(quantize(x)) stays within half a step of each group.
#include "base/quantize.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace ms {
namespace {

constexpr TensorType kTypes[] = {TensorType::f32,  TensorType::f16,  TensorType::bf16,
                                 TensorType::q8_0, TensorType::q4_0, TensorType::q4_1,
                                 TensorType::q4_k, TensorType::q6_k};
constexpr size_t kElements = 256;  // one block of the largest

std::vector<float> round_trip(TensorType type, const std::vector<float>& values) {
  std::vector<float> decoded(values.size());
  decode(type, quantize(type, values), decoded);
  return decoded;
}

// The bounds of `size` elements around i, with 0 in between.
struct Range {
  float low, high;
  float width() const { return high - low; }
  float magnitude() const { return std::max(-low, high); }
};

Range range_around(const std::vector<float>& values, size_t i, size_t size) {
  const auto first = values.begin() + static_cast<ptrdiff_t>(i / size * size);
  const auto [low, high] = std::minmax_element(first, first + static_cast<ptrdiff_t>(size));
  return {std::min(*low, 0.0f), std::max(*high, 0.0f)};
}

// The largest error that element i of one block of 256 may have.
double error_bound(TensorType type, const std::vector<float>& values, size_t i) {
  const double x = std::abs(values[i]);
  const Range block = range_around(values, i, 32);
  const Range whole = range_around(values, i, 256);
  // Scales are f16 and rounded up: by 2^-10 of them, or by a subnormal step.
  const auto half_a_step = [](double step) { return 0.5 * (step * 1.001 + 0x1p-24); };
  switch (type) {
    case TensorType::f32:
      return 0;
    case TensorType::f16:
      return std::max(x * 0x1p-11, 0x1p-25);
    case TensorType::bf16:
      return x * 0x1p-8;
    case TensorType::q8_0:
      return half_a_step(block.magnitude() / 127);
    case TensorType::q4_0:  // a whole step at the end that has seven steps, not eight
      return 2 * half_a_step(block.magnitude() / 8);
    case TensorType::q4_1:  // the min is f16, too
      return half_a_step(block.width() / 15) + std::max(block.magnitude() * 0x1p-10, 0x1p-25);
    case TensorType::q4_k: {  // a group's scale and min are rounded up to 1/63 of the largest
      const double min_step = whole.magnitude() / 63 * 1.001 + 0x1p-24;
      const double scale_step = (whole.width() + min_step) / 15 / 63 * 1.001 + 0x1p-24;
      return half_a_step((block.width() + min_step) / 15 + scale_step);
    }
    case TensorType::q6_k: {
      const Range group = range_around(values, i, 16);
      const double scale_step = whole.magnitude() / 31 / 127 * 1.001 + 0x1p-24;
      return half_a_step(group.magnitude() / 31 + scale_step);
    }
    default:
      ADD_FAILURE() << "no bound for " << info(type).name;
      return 0;
  }
}

void expect_within_bounds(const std::vector<float>& values, const char* what) {
  for (TensorType type : kTypes) {
    const std::vector<float> decoded = round_trip(type, values);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_NEAR(decoded[i], values[i], error_bound(type, values, i))
          << info(type).name << " of " << what << ", element " << i;
    }
  }
}

TEST(Quantize, errors_stay_within_half_a_step) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int round = 0; round < 100; ++round) {
    std::vector<float> values(kElements);
    const float scale = std::pow(10.0f, static_cast<float>(round % 8 - 5));  // 1e-5 .. 1e2
    for (float& value : values) value = scale * normal(random);
    expect_within_bounds(values, "normal values");
    for (float& value : values) value = std::abs(value) + scale;
    expect_within_bounds(values, "positive values");
    for (float& value : values) value = -value;
    expect_within_bounds(values, "negative values");
    for (size_t i = 0; i < values.size(); ++i) values[i] *= i / 16 % 3 == 0 ? 100.0f : 1.0f;
    expect_within_bounds(values, "groups of unequal size");
  }
}

TEST(Quantize, the_relative_error_of_normal_values_is_what_the_bits_allow) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal(0, 0.02f);  // as weights are
  std::vector<float> values(64 * kElements);
  for (float& value : values) value = normal(random);
  const auto relative_error = [&](TensorType type) {
    const std::vector<float> decoded = round_trip(type, values);
    double error = 0, power = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      error += std::pow(decoded[i] - values[i], 2);
      power += std::pow(values[i], 2);
    }
    return std::sqrt(error / power);
  };
  EXPECT_EQ(relative_error(TensorType::f32), 0);
  EXPECT_LT(relative_error(TensorType::f16), 3e-4);
  EXPECT_LT(relative_error(TensorType::bf16), 3e-3);
  EXPECT_LT(relative_error(TensorType::q8_0), 0.006);
  EXPECT_LT(relative_error(TensorType::q6_k), 0.022);
  EXPECT_LT(relative_error(TensorType::q4_1), 0.09);
  EXPECT_LT(relative_error(TensorType::q4_k), 0.09);
  EXPECT_LT(relative_error(TensorType::q4_0), 0.10);
}

TEST(Quantize, zeros_stay_zeros) {
  const std::vector<float> zeros(kElements);
  for (TensorType type : kTypes) EXPECT_EQ(round_trip(type, zeros), zeros) << info(type).name;
}

TEST(Quantize, huge_values_saturate) {
  std::vector<float> values(kElements, std::numeric_limits<float>::max());
  values[1] = -values[0];
  for (TensorType type : kTypes) {
    if (info(type).block_size == 1) continue;
    for (float value : round_trip(type, values)) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST(Quantize, values_that_are_not_finite_are_refused_by_their_place) {
  std::vector<float> values(kElements);
  values[37] = NAN;
  EXPECT_TRUE(std::isnan(round_trip(TensorType::bf16, values)[37]));
  try {
    quantize(TensorType::q4_k, values);
    FAIL() << "nothing was thrown";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "quantize: element 37 is not finite, which q4_k cannot hold");
  }
}

TEST(Quantize, a_wrong_size_or_type_is_refused) {
  const std::vector<float> values(kElements);
  std::vector<std::byte> blocks(144);
  EXPECT_NO_THROW(quantize(TensorType::q4_k, values, blocks));
  EXPECT_THROW(quantize(TensorType::q4_k, values, std::span(blocks).first(143)),
               std::invalid_argument);
  EXPECT_THROW(quantize(TensorType::q4_k, std::span(values).first(255)), std::invalid_argument);
  EXPECT_FALSE(can_quantize(TensorType::q5_k));
  EXPECT_THROW(quantize(TensorType::q5_k, values), std::invalid_argument);
}

}  // namespace
}  // namespace ms
