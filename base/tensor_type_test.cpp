// tensor_type_test.cpp: the table of types, and each decoder against two others: the values that an
// independent program gave for fixed blocks, and a formula per element for random ones.
#include "base/tensor_type.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/half.hpp"

namespace ms {
namespace {

struct Vector {
  TensorType type;
  std::string_view hex;
  std::vector<float> values;
};

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> all = {
#include "base/tensor_type_vectors.inc"
  };
  return all;
}

std::vector<std::byte> from_hex(std::string_view hex) {
  std::vector<std::byte> bytes;
  for (size_t i = 0; i < hex.size(); i += 2) {
    bytes.push_back(std::byte(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return bytes;
}

std::vector<TensorType> decodable_types() {
  std::vector<TensorType> types;
  for (uint32_t id = 0; id < 100; ++id) {
    const TypeInfo* type = find_type(id);
    if (type != nullptr && can_decode(type->type)) types.push_back(type->type);
  }
  return types;
}

// The value of element e of a block, from the definition of its type, in double.
double element(TensorType type, const uint8_t* b, size_t e) {
  const auto u16 = [&](size_t at) { return static_cast<uint16_t>(b[at] | b[at + 1] << 8); };
  const auto f16 = [&](size_t at) { return static_cast<double>(f16_to_f32(u16(at))); };
  const auto i8 = [&](size_t at) { return b[at] < 128 ? b[at] : b[at] - 256; };
  const auto bit = [&](size_t at, size_t i) { return b[at + i / 8] >> i % 8 & 1; };
  // Element i of 32 in the 16 bytes at `at`.
  const auto nibble = [&](size_t at, size_t i) {
    return i < 16 ? b[at + i] % 16 : b[at + i - 16] / 16;
  };
  // Element e of 256 in the 64 bytes at `at`.
  const auto two_bits = [&](size_t at) {
    return b[at + e / 128 * 32 + e % 32] >> e % 128 / 32 * 2 & 3;
  };
  // Element e of 256 in the 128 bytes at `at`.
  const auto k_nibble = [&](size_t at) {
    return b[at + e / 64 * 32 + e % 32] >> e / 32 % 2 * 4 & 15;
  };
  // The 6-bit scales (s) and mins (m) of q4_k and q5_k, spelled out.
  const size_t g = e / 32;
  const int s = g < 4 ? b[4 + g] % 64 : b[8 + g] % 16 + b[g] / 64 * 16;
  const int m = g < 4 ? b[8 + g] % 64 : b[8 + g] / 16 + b[4 + g] / 64 * 16;
  static constexpr double nonlinear[] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                         1,    13,   25,  38,  53,  69,  89,  113};
  static constexpr double e2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  switch (type) {
    case TensorType::q4_0:
      return f16(0) * (nibble(2, e) - 8);
    case TensorType::q4_1:
      return f16(0) * nibble(4, e) + f16(2);
    case TensorType::q5_0:
      return f16(0) * (nibble(6, e) + 16 * bit(2, e) - 16);
    case TensorType::q5_1:
      return f16(0) * (nibble(8, e) + 16 * bit(4, e)) + f16(2);
    case TensorType::q8_0:
      return f16(0) * i8(2 + e);
    case TensorType::q2_k:
      return f16(80) * (b[e / 16] % 16) * two_bits(16) - f16(82) * (b[e / 16] / 16);
    case TensorType::q3_k: {
      const size_t j = e / 16;
      const int low = j < 8 ? b[96 + j] % 16 : b[96 + j - 8] / 16;
      const int high = b[104 + j % 4] >> 2 * (j / 4) & 3;
      const int third = b[e % 32] >> e / 32 & 1;
      return f16(108) * (low + 16 * high - 32) * (two_bits(32) + 4 * third - 4);
    }
    case TensorType::q4_k:
      return f16(0) * s * k_nibble(16) - f16(2) * m;
    case TensorType::q5_k:
      return f16(0) * s * (k_nibble(48) + 16 * (b[16 + e % 32] >> g & 1)) - f16(2) * m;
    case TensorType::q6_k: {
      const int low = b[e / 128 * 64 + e % 64] >> e % 128 / 64 * 4 & 15;
      return f16(208) * i8(192 + e / 16) * (low + 16 * two_bits(128) - 32);
    }
    case TensorType::iq4_nl:
      return f16(0) * nonlinear[nibble(2, e)];
    case TensorType::iq4_xs: {
      const int scale = (b[4 + g / 2] >> g % 2 * 4 & 15) + 16 * (u16(2) >> 2 * g & 3);
      return f16(0) * (scale - 32) * nonlinear[nibble(8 + 16 * g, e % 32)];
    }
    case TensorType::mxfp4: {
      const int code = nibble(1, e);
      return std::ldexp(e2m1[code % 8], b[0] - 127) * (code < 8 ? 1 : -1);
    }
    default:
      ADD_FAILURE() << "no formula for " << info(type).name;
      return 0;
  }
}

TEST(TensorType, names_and_ids_lead_to_the_same_type) {
  size_t known = 0;
  for (uint32_t id = 0; id < 100; ++id) {
    const TypeInfo* type = find_type(id);
    if (type == nullptr) continue;
    ++known;
    EXPECT_EQ(static_cast<uint32_t>(type->type), id);
    EXPECT_EQ(type_by_name(type->name), type->type);
    EXPECT_EQ(&info(type->type), type);
  }
  EXPECT_EQ(known, 35u);
  for (uint32_t withdrawn : {4, 5, 31, 32, 33, 36, 37, 38})
    EXPECT_EQ(find_type(withdrawn), nullptr);
  EXPECT_EQ(find_type(0xffffffff), nullptr);
  EXPECT_EQ(type_by_name("Q4_K"), std::nullopt);
  EXPECT_THROW(info(TensorType{4}), std::invalid_argument);
}

TEST(TensorType, blocks_have_the_bits_per_element_that_their_names_stand_for) {
  const auto bits = [](TensorType type) {
    return 8.0 * info(type).block_bytes / info(type).block_size;
  };
  EXPECT_EQ(bits(TensorType::f64), 64);
  EXPECT_EQ(bits(TensorType::bf16), 16);
  EXPECT_EQ(bits(TensorType::q4_0), 4.5);
  EXPECT_EQ(bits(TensorType::q5_1), 6);
  EXPECT_EQ(bits(TensorType::q8_0), 8.5);
  EXPECT_EQ(bits(TensorType::q2_k), 2.625);
  EXPECT_EQ(bits(TensorType::q3_k), 3.4375);
  EXPECT_EQ(bits(TensorType::q4_k), 4.5);
  EXPECT_EQ(bits(TensorType::q5_k), 5.5);
  EXPECT_EQ(bits(TensorType::q6_k), 6.5625);
  EXPECT_EQ(bits(TensorType::iq1_s), 1.5625);
  EXPECT_EQ(bits(TensorType::iq1_m), 1.75);
  EXPECT_EQ(bits(TensorType::iq2_xxs), 2.0625);
  EXPECT_EQ(bits(TensorType::iq2_xs), 2.3125);
  EXPECT_EQ(bits(TensorType::iq2_s), 2.5625);
  EXPECT_EQ(bits(TensorType::iq3_xxs), 3.0625);
  EXPECT_EQ(bits(TensorType::iq3_s), 3.4375);
  EXPECT_EQ(bits(TensorType::iq4_xs), 4.25);
  EXPECT_EQ(bits(TensorType::tq1_0), 1.6875);
  EXPECT_EQ(bits(TensorType::tq2_0), 2.0625);
  EXPECT_EQ(bits(TensorType::mxfp4), 4.25);
}

TEST(TensorType, decoders_give_what_an_independent_program_gave) {
  for (const Vector& vector : vectors()) {
    std::vector<float> decoded(vector.values.size());
    decode(vector.type, from_hex(vector.hex), decoded);
    float largest = 0;
    for (float value : vector.values) largest = std::max(largest, std::abs(value));
    for (size_t i = 0; i < decoded.size(); ++i) {
      // Equal but for what a fused multiply-add may round differently.
      ASSERT_NEAR(decoded[i], vector.values[i], 1e-6f * largest)
          << info(vector.type).name << " element " << i;
    }
  }
}

TEST(TensorType, every_block_type_that_decodes_has_a_vector) {
  for (TensorType type : decodable_types()) {
    if (info(type).block_size == 1) continue;
    EXPECT_TRUE(std::any_of(vectors().begin(), vectors().end(), [&](const Vector& vector) {
      return vector.type == type;
    })) << info(type).name;
  }
}

TEST(TensorType, decoders_agree_with_a_formula_per_element) {
  std::mt19937 random(1);
  for (TensorType type : decodable_types()) {
    const auto [id, name, block_size, block_bytes] = info(type);
    if (block_size == 1) continue;
    for (int round = 0; round < 200; ++round) {
      std::vector<uint8_t> block(block_bytes);
      for (auto& byte : block) byte = static_cast<uint8_t>(random());
      std::vector<float> decoded(block_size);
      decode(type, std::as_bytes(std::span(block)), decoded);

      std::vector<double> expected(block_size);
      double largest = 0;
      for (size_t i = 0; i < block_size; ++i) {
        expected[i] = element(type, block.data(), i);
        if (std::isfinite(expected[i])) largest = std::max(largest, std::abs(expected[i]));
      }
      for (size_t i = 0; i < block_size; ++i) {
        const auto rounded = static_cast<float>(expected[i]);
        if (std::isnan(rounded)) {
          ASSERT_TRUE(std::isnan(decoded[i])) << name << " element " << i;
        } else if (std::isinf(rounded)) {
          ASSERT_EQ(decoded[i], rounded) << name << " element " << i;
        } else {
          ASSERT_NEAR(decoded[i], expected[i], 1e-6 * largest) << name << " element " << i;
        }
      }
    }
  }
}

TEST(TensorType, plain_floats_decode_to_themselves) {
  const float values[] = {1.5f, -0.0f, 3e38f, INFINITY};
  std::vector<float> decoded(4);
  decode(TensorType::f32, std::as_bytes(std::span(values)), decoded);
  EXPECT_EQ(std::memcmp(decoded.data(), values, sizeof values), 0);

  const uint16_t halves[] = {0x3e00, 0x8001, 0x7bff, 0xfc00};
  decode(TensorType::f16, std::as_bytes(std::span(halves)), decoded);
  EXPECT_EQ(decoded, (std::vector<float>{1.5f, -0x1p-24f, 65504.0f, -INFINITY}));

  const uint16_t brains[] = {0x3fc0, 0x8000, 0x4049, 0x7f80};
  decode(TensorType::bf16, std::as_bytes(std::span(brains)), decoded);
  EXPECT_EQ(decoded, (std::vector<float>{1.5f, -0.0f, 3.140625f, INFINITY}));
}

TEST(TensorType, blocks_may_lie_at_any_address) {
  for (const Vector& vector : vectors()) {
    std::vector<std::byte> shifted = from_hex(vector.hex);
    shifted.insert(shifted.begin(), std::byte{});
    std::vector<float> aligned(vector.values.size()), decoded(vector.values.size());
    decode(vector.type, from_hex(vector.hex), aligned);
    decode(vector.type, std::span(shifted).subspan(1), decoded);
    EXPECT_EQ(decoded, aligned) << info(vector.type).name;
  }
}

TEST(TensorType, a_wrong_size_or_type_is_refused_and_nothing_decodes_to_nothing) {
  std::vector<std::byte> blocks(36);
  std::vector<float> out(64);
  EXPECT_NO_THROW(decode(TensorType::q4_0, blocks, out));
  EXPECT_NO_THROW(decode(TensorType::q4_0, {}, {}));
  EXPECT_THROW(decode(TensorType::q4_0, std::span(blocks).first(35), out), std::invalid_argument);
  EXPECT_THROW(decode(TensorType::q4_0, blocks, std::span(out).first(63)), std::invalid_argument);
  EXPECT_THROW(decode(TensorType::q4_0, blocks, std::span(out).first(32)), std::invalid_argument);
  EXPECT_THROW(decode(TensorType::iq2_s, {}, {}), std::invalid_argument);
}

}  // namespace
}  // namespace ms
