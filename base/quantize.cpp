// quantize.cpp: an encoder of one block for each type; the layouts are those of tensor_type.cpp.
#include "base/quantize.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/error.hpp"
#include "base/half.hpp"

namespace ms {
namespace {

using Byte = uint8_t;

void store_u16(Byte* at, uint16_t value) { std::memcpy(at, &value, sizeof value); }

// Stores a value as f16, saturated, and returns what a decoder will read.
float store_f16(Byte* at, float value) {
  const uint16_t bits = f32_to_f16(std::clamp(value, -65504.0f, 65504.0f));
  store_u16(at, bits);
  return f16_to_f32(bits);
}

// The same, rounded away from zero: a scale must not shrink, least of all where it is subnormal.
float store_scale(Byte* at, float value) {
  const float stored = store_f16(at, value);
  if (std::abs(stored) >= std::min(std::abs(value), 65504.0f)) return stored;
  const auto above = static_cast<uint16_t>(f32_to_f16(stored) + 1);
  store_u16(at, above);
  return f16_to_f32(above);
}

// The number of steps nearest to x, within low .. high. A step of 0 belongs to values of 0.
int nearest(float x, float step, int low, int high) {
  if (step == 0) return 0;
  const float steps = std::clamp(x / step, static_cast<float>(low), static_cast<float>(high));
  return static_cast<int>(std::lround(steps));
}

// How many steps cover x >= 0, at most limit.
int cover(float x, float step, int limit) {
  if (step == 0) return 0;
  return static_cast<int>(std::ceil(std::min(x / step, static_cast<float>(limit))));
}

float largest_magnitude(const float* x, int count) {
  float largest = 0;
  for (int i = 0; i < count; ++i) largest = std::max(largest, std::abs(x[i]));
  return largest;
}

void encode_f32(const float* x, Byte* block) { std::memcpy(block, x, sizeof *x); }
void encode_f16(const float* x, Byte* block) { store_u16(block, f32_to_f16(*x)); }
void encode_bf16(const float* x, Byte* block) { store_u16(block, f32_to_bf16(*x)); }

void encode_q8_0(const float* x, Byte* block) {
  const float d = store_scale(block, largest_magnitude(x, 32) / 127);
  for (int i = 0; i < 32; ++i) block[2 + i] = static_cast<Byte>(nearest(x[i], d, -127, 127));
}

// The value of largest magnitude becomes -8, which has no positive counterpart.
void encode_q4_0(const float* x, Byte* block) {
  const float extreme =
      *std::max_element(x, x + 32, [](float a, float b) { return std::abs(a) < std::abs(b); });
  const float d = store_scale(block, extreme / -8);
  for (int i = 0; i < 16; ++i) {
    const int low = nearest(x[i], d, -8, 7) + 8;
    const int high = nearest(x[i + 16], d, -8, 7) + 8;
    block[2 + i] = static_cast<Byte>(low | high << 4);
  }
}

void encode_q4_1(const float* x, Byte* block) {
  const auto [smallest, largest] = std::minmax_element(x, x + 32);
  const float m = store_f16(block + 2, *smallest);
  const float d = store_scale(block, (*largest - m) / 15);
  for (int i = 0; i < 16; ++i) {
    const int low = nearest(x[i] - m, d, 0, 15);
    const int high = nearest(x[i + 16] - m, d, 0, 15);
    block[4 + i] = static_cast<Byte>(low | high << 4);
  }
}

// Scales and mins are rounded up, so that the steps of a group span its values.
void encode_q4_k(const float* x, Byte* block) {
  float smallest[8], largest[8];  // of each group, with 0 in between
  for (int group = 0; group < 8; ++group) {
    const auto [low, high] = std::minmax_element(x + group * 32, x + group * 32 + 32);
    smallest[group] = std::min(*low, 0.0f);
    largest[group] = std::max(*high, 0.0f);
  }
  const float dmin = store_scale(block + 2, -*std::min_element(smallest, smallest + 8) / 63);
  int mins[8];
  float spans[8];
  for (int group = 0; group < 8; ++group) {
    mins[group] = cover(-smallest[group], dmin, 63);
    spans[group] = (largest[group] + dmin * static_cast<float>(mins[group])) / 15;
  }
  const float d = store_scale(block, *std::max_element(spans, spans + 8) / 63);

  Byte* packed = block + 4;
  std::memset(packed, 0, 12 + 128);
  for (int group = 0; group < 8; ++group) {
    const int scale = cover(spans[group], d, 63);
    if (group < 4) {
      packed[group] |= scale;
      packed[group + 4] |= mins[group];
    } else {
      packed[group + 4] |= (scale & 15) | (mins[group] & 15) << 4;
      packed[group - 4] |= scale >> 4 << 6;
      packed[group] |= mins[group] >> 4 << 6;
    }
    Byte* quants = block + 16 + group / 2 * 32;
    const float step = d * static_cast<float>(scale);
    const float min = dmin * static_cast<float>(mins[group]);
    for (int i = 0; i < 32; ++i) {
      quants[i] |= nearest(x[group * 32 + i] + min, step, 0, 15) << group % 2 * 4;
    }
  }
}

void encode_q6_k(const float* x, Byte* block) {
  const float d = store_scale(block + 208, largest_magnitude(x, 256) / 31 / 127);
  std::memset(block, 0, 128 + 64);
  for (int group = 0; group < 16; ++group) {
    const float* values = x + group * 16;
    const int scale = cover(largest_magnitude(values, 16) / 31, d, 127);
    block[192 + group] = static_cast<Byte>(scale);
    const int half = group / 8;
    const int within = group % 8;
    Byte* low = block + half * 64 + within % 4 * 16;
    Byte* high = block + 128 + half * 32 + within % 2 * 16;
    for (int i = 0; i < 16; ++i) {
      const int q = nearest(values[i], d * static_cast<float>(scale), -32, 31) + 32;
      low[i] |= (q & 15) << within / 4 * 4;
      high[i] |= q >> 4 << within / 2 * 2;
    }
  }
}

using Encoder = void (*)(const float* values, Byte* block);

Encoder find_encoder(TensorType type) {
  switch (type) {
    case TensorType::f32:
      return encode_f32;
    case TensorType::f16:
      return encode_f16;
    case TensorType::bf16:
      return encode_bf16;
    case TensorType::q8_0:
      return encode_q8_0;
    case TensorType::q4_0:
      return encode_q4_0;
    case TensorType::q4_1:
      return encode_q4_1;
    case TensorType::q4_k:
      return encode_q4_k;
    case TensorType::q6_k:
      return encode_q6_k;
    default:
      return nullptr;
  }
}

}  // namespace

bool can_quantize(TensorType type) { return find_encoder(type) != nullptr; }

void quantize(TensorType type, std::span<const float> values, std::span<std::byte> blocks) {
  const Encoder encode = find_encoder(type);
  const auto& [id, name, block_size, block_bytes] = info(type);
  require(encode != nullptr, "quantize: there is no quantiser for {}", name);
  const size_t count = values.size() / block_size;
  require(values.size() % block_size == 0 && blocks.size() == count * block_bytes,
          "quantize: {} elements into {} bytes of {}; a block has {} elements and {} bytes",
          values.size(), blocks.size(), name, block_size, block_bytes);
  if (block_size > 1) {
    const auto bad =
        std::find_if_not(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
    require(bad == values.end(), "quantize: element {} is not finite, which {} cannot hold",
            bad - values.begin(), name);
  }
  for (size_t i = 0; i < count; ++i) {
    encode(values.data() + i * block_size,
           reinterpret_cast<Byte*>(blocks.data()) + i * block_bytes);
  }
}

std::vector<std::byte> quantize(TensorType type, std::span<const float> values) {
  const TypeInfo& description = info(type);
  std::vector<std::byte> blocks(values.size() / description.block_size * description.block_bytes);
  quantize(type, values, blocks);
  return blocks;
}

std::vector<std::byte> random_blocks(TensorType type, uint64_t count, float largest,
                                     std::mt19937& rng) {
  // Where a block has f16 scales, and what its integers come to at most for each.
  struct Scales {
    TensorType type;
    std::vector<std::pair<size_t, float>> at;
  };
  static const Scales all[] = {{TensorType::q4_0, {{0, 8}}},
                               {TensorType::q4_1, {{0, 30}, {2, 2}}},
                               {TensorType::q5_0, {{0, 16}}},
                               {TensorType::q5_1, {{0, 62}, {2, 2}}},
                               {TensorType::q8_0, {{0, 128}}},
                               {TensorType::q2_k, {{80, 2 * 15 * 3}, {82, 2 * 15}}},
                               {TensorType::q3_k, {{108, 32 * 4}}},
                               {TensorType::q4_k, {{0, 2 * 63 * 15}, {2, 2 * 63}}},
                               {TensorType::q5_k, {{0, 2 * 63 * 31}, {2, 2 * 63}}},
                               {TensorType::q6_k, {{208, 128 * 32}}},
                               {TensorType::iq4_nl, {{0, 127}}},
                               {TensorType::iq4_xs, {{0, 32 * 127}}},
                               {TensorType::mxfp4, {}}};
  const TypeInfo& block = info(type);
  std::vector<std::byte> bytes(count * block.block_bytes);
  std::uniform_real_distribution<float> uniform(-largest, largest), part(0.25f, 1);
  if (block.block_size == 1) {
    std::vector<float> values(count);
    for (float& v : values) v = uniform(rng);
    quantize(type, values, bytes);
    return bytes;
  }
  const auto scales = std::ranges::find(all, type, &Scales::type);
  if (scales == std::end(all))
    throw std::invalid_argument(fmt::format("no random blocks of {}", block.name));
  for (size_t i = 0; i < bytes.size(); i += 4) {
    const uint32_t word = rng();
    std::memcpy(bytes.data() + i, &word, std::min<size_t>(4, bytes.size() - i));
  }
  for (uint64_t i = 0; i < count; ++i) {
    std::byte* const at = bytes.data() + i * block.block_bytes;
    for (const auto& [offset, most] : scales->at) {
      const uint16_t bits = f32_to_f16(part(rng) * largest / most);
      std::memcpy(at + offset, &bits, 2);
    }
    // Exponents: 6 is the largest value, 2^(e - 127) its scale.
    if (type == TensorType::mxfp4)
      at[0] = std::byte(std::clamp(127 + std::ilogb(largest / 6) - int(rng() % 3), 0, 254));
  }
  return bytes;
}

}  // namespace ms
