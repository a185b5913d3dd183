// tensor_type.cpp: the table of types, and a decoder of one block for each that can be decoded.
//
// Layouts are GGML's (ggml-common.h): byte offsets stand in each decoder, integers are
// little-endian. x is the value, d the block's scale, q the stored integer.
#include "base/tensor_type.hpp"

#include <bit>
#include <cstring>

#include "base/error.hpp"
#include "base/half.hpp"

namespace ms {
namespace {

static_assert(std::endian::native == std::endian::little,
              "blocks are read as they lie in the file");

using Byte = uint8_t;

uint16_t load_u16(const Byte* at) {
  uint16_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

float load_f16(const Byte* at) { return f16_to_f32(load_u16(at)); }

void decode_f32(const Byte* block, float* out) { std::memcpy(out, block, sizeof *out); }
void decode_f16(const Byte* block, float* out) { *out = load_f16(block); }
void decode_bf16(const Byte* block, float* out) { *out = bf16_to_f32(load_u16(block)); }

// 32 elements: the low nibbles of 16 bytes are the first half, the high nibbles the second.
template <class Value>
void decode_nibbles(const Byte* quants, float* out, Value value) {
  for (int i = 0; i < 16; ++i) {
    out[i] = value(quants[i] & 15, i);
    out[i + 16] = value(quants[i] >> 4, i + 16);
  }
}

// d f16, quants [16]: x = d * (q - 8)
void decode_q4_0(const Byte* block, float* out) {
  const float d = load_f16(block);
  decode_nibbles(block + 2, out, [=](int q, int) { return d * static_cast<float>(q - 8); });
}

// d f16, m f16, quants [16]: x = d * q + m
void decode_q4_1(const Byte* block, float* out) {
  const float d = load_f16(block);
  const float m = load_f16(block + 2);
  decode_nibbles(block + 4, out, [=](int q, int) { return d * static_cast<float>(q) + m; });
}

// The fifth bits of 32 elements, element i in bit i.
int fifth_bit(uint32_t bits, int i) { return static_cast<int>(bits >> i & 1u) << 4; }

// d f16, fifth bits u32, quants [16]: x = d * (q - 16)
void decode_q5_0(const Byte* block, float* out) {
  const float d = load_f16(block);
  uint32_t bits;
  std::memcpy(&bits, block + 2, sizeof bits);
  decode_nibbles(block + 6, out, [=](int q, int i) {
    return d * static_cast<float>((q | fifth_bit(bits, i)) - 16);
  });
}

// d f16, m f16, fifth bits u32, quants [16]: x = d * q + m
void decode_q5_1(const Byte* block, float* out) {
  const float d = load_f16(block);
  const float m = load_f16(block + 2);
  uint32_t bits;
  std::memcpy(&bits, block + 4, sizeof bits);
  decode_nibbles(block + 8, out,
                 [=](int q, int i) { return d * static_cast<float>(q | fifth_bit(bits, i)) + m; });
}

// d f16, quants i8 [32]: x = d * q
void decode_q8_0(const Byte* block, float* out) {
  const float d = load_f16(block);
  for (int i = 0; i < 32; ++i) {
    out[i] = d * static_cast<float>(static_cast<int8_t>(block[2 + i]));
  }
}

// K-quants: 256 elements. 2-bit quants lie in two halves of 128 elements and 32 bytes: bits 2k of
// byte i are element 32k + i of the half.

// scale and min nibbles [16], quants [64], d f16, dmin f16; x = d * scale * q - dmin * min
void decode_q2_k(const Byte* block, float* out) {
  const Byte* quants = block + 16;
  const float d = load_f16(block + 80);
  const float dmin = load_f16(block + 82);
  for (int group = 0; group < 16; ++group) {  // 16 elements share a scale and a min
    const float scale = d * static_cast<float>(block[group] & 15);
    const float min = dmin * static_cast<float>(block[group] >> 4);
    const Byte* q = quants + group / 8 * 32 + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i) *out++ = scale * static_cast<float>(q[i] >> shift & 3) - min;
  }
}

// third bits [32], quants [64], 6-bit scales [12], d f16; x = d * (scale - 32) * (q - 4)
// Bit k of third bits [i] belongs to element 32k + i. Scale j has its low four bits in nibble j / 8
// of byte j % 8, its high two in bits 2 * (j / 4) of byte 8 + j % 4.
void decode_q3_k(const Byte* block, float* out) {
  const Byte* quants = block + 32;
  const Byte* scales = block + 96;
  const float d = load_f16(block + 108);
  for (int group = 0; group < 16; ++group) {
    const int low = scales[group % 8] >> group / 8 * 4 & 15;
    const int high = scales[8 + group % 4] >> group / 4 * 2 & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    const Byte* third = block + group % 2 * 16;
    const Byte* q = quants + group / 8 * 32 + group % 2 * 16;
    const int shift = group % 8 / 2 * 2;
    for (int i = 0; i < 16; ++i) {
      const int value = (q[i] >> shift & 3) | (third[i] >> group / 2 & 1) << 2;
      *out++ = scale * static_cast<float>(value - 4);
    }
  }
}

struct ScaleMin {
  float scale;
  float min;
};

// The scale and min of 32 elements of a q4_k or q5_k block: d f16, dmin f16, then 12 bytes. Groups
// 0 to 3 have 6-bit scales in bytes 0 to 3 and mins in bytes 4 to 7. Groups 4 to 7 have their low
// four bits in the nibbles of bytes 8 to 11, and their high two on top of the bytes of groups 0
// to 3.
ScaleMin load_scale_min(const Byte* block, int group) {
  const Byte* packed = block + 4;
  int scale = packed[group % 4] & 63;
  int min = packed[group % 4 + 4] & 63;
  if (group >= 4) {
    scale = (packed[group + 4] & 15) | packed[group - 4] >> 6 << 4;
    min = packed[group + 4] >> 4 | packed[group] >> 6 << 4;
  }
  return {load_f16(block) * static_cast<float>(scale),
          load_f16(block + 2) * static_cast<float>(min)};
}

// d, dmin and scales [16], quants [128]; x = d * scale * q - dmin * min
// 32 bytes hold two groups of 32 elements: the low nibbles, then the high ones.
void decode_q4_k(const Byte* block, float* out) {
  for (int group = 0; group < 8; ++group) {
    const auto [scale, min] = load_scale_min(block, group);
    const Byte* q = block + 16 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) *out++ = scale * static_cast<float>(q[i] >> shift & 15) - min;
  }
}

// d, dmin and scales [16], fifth bits [32], quants [128]; as q4_k, bit k of fifth bits [i] belongs
// to element 32k + i.
void decode_q5_k(const Byte* block, float* out) {
  const Byte* fifth = block + 16;
  for (int group = 0; group < 8; ++group) {
    const auto [scale, min] = load_scale_min(block, group);
    const Byte* q = block + 48 + group / 2 * 32;
    const int shift = group % 2 * 4;
    for (int i = 0; i < 32; ++i) {
      const int value = (q[i] >> shift & 15) | (fifth[i] >> group & 1) << 4;
      *out++ = scale * static_cast<float>(value) - min;
    }
  }
}

// low nibbles [128], high bits [64], scales i8 [16], d f16; x = d * scale * (q - 32)
// A half of 128 elements has 64 bytes of low nibbles: the low ones of byte i are element i, the
// high ones element 64 + i. Its high bits lie as 2-bit quants.
void decode_q6_k(const Byte* block, float* out) {
  const float d = load_f16(block + 208);
  for (int group = 0; group < 16; ++group) {
    const int half = group / 8;
    const int within = group % 8;
    const float scale = d * static_cast<float>(static_cast<int8_t>(block[192 + group]));
    const Byte* low = block + half * 64 + within % 4 * 16;
    const Byte* high = block + 128 + half * 32 + within % 2 * 16;
    const int low_shift = within / 4 * 4;
    const int high_shift = within / 2 * 2;
    for (int i = 0; i < 16; ++i) {
      const int value = (low[i] >> low_shift & 15) | (high[i] >> high_shift & 3) << 4;
      *out++ = scale * static_cast<float>(value - 32);
    }
  }
}

// The 16 levels of iq4_nl and iq4_xs.
constexpr int8_t kIq4Levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                   1,    13,   25,  38,  53,  69,  89,  113};

// d f16, quants [16]: x = d * level[q]
void decode_iq4_nl(const Byte* block, float* out) {
  const float d = load_f16(block);
  decode_nibbles(block + 2, out, [=](int q, int) { return d * static_cast<float>(kIq4Levels[q]); });
}

// d f16, high scale bits u16, low scale nibbles [4], quants [128]: 8 groups as iq4_nl, with the
// scale d * (scale - 32).
void decode_iq4_xs(const Byte* block, float* out) {
  const float d = load_f16(block);
  const int high_bits = load_u16(block + 2);
  for (int group = 0; group < 8; ++group) {
    const int low = block[4 + group / 2] >> group % 2 * 4 & 15;
    const int high = high_bits >> group * 2 & 3;
    const float scale = d * static_cast<float>((low | high << 4) - 32);
    decode_nibbles(block + 8 + group * 16, out + group * 32,
                   [=](int q, int) { return scale * static_cast<float>(kIq4Levels[q]); });
  }
}

// Twice the values of E2M1, the 4-bit float of the OCP microscaling formats.
constexpr int8_t kE2m1Doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// exponent u8, quants [16]: x = 2^(exponent - 127) * E2M1[q]. Exponent 255, which OCP reserves for
// NaN, counts as the others do, as in GGML.
void decode_mxfp4(const Byte* block, float* out) {
  // Half the scale, 2^(exponent - 128), by its bits: below exponent 2 it is subnormal.
  const uint32_t bits = block[0] < 2 ? 0x00200000u << block[0] : (block[0] - 1u) << 23;
  const float half_scale = std::bit_cast<float>(bits);
  decode_nibbles(block + 1, out,
                 [=](int q, int) { return half_scale * static_cast<float>(kE2m1Doubled[q]); });
}

using Decoder = void (*)(const Byte* blocks, size_t count, float* out);

struct Entry {
  TypeInfo info;
  Decoder decode;  // null where there is none
};

template <auto decode_block, uint32_t block_size, uint32_t block_bytes>
void decode_blocks(const Byte* blocks, size_t count, float* out) {
  for (size_t i = 0; i < count; ++i) decode_block(blocks + i * block_bytes, out + i * block_size);
}

template <auto decode_block, uint32_t block_size, uint32_t block_bytes>
constexpr Entry decodable(TensorType type, std::string_view name) {
  return {{type, name, block_size, block_bytes},
          decode_blocks<decode_block, block_size, block_bytes>};
}

constexpr Entry opaque(TensorType type, std::string_view name, uint32_t size, uint32_t bytes) {
  return {{type, name, size, bytes}, nullptr};
}

constexpr Entry kTypes[] = {
    decodable<decode_f32, 1, 4>(TensorType::f32, "f32"),
    decodable<decode_f16, 1, 2>(TensorType::f16, "f16"),
    decodable<decode_bf16, 1, 2>(TensorType::bf16, "bf16"),
    decodable<decode_q4_0, 32, 18>(TensorType::q4_0, "q4_0"),
    decodable<decode_q4_1, 32, 20>(TensorType::q4_1, "q4_1"),
    decodable<decode_q5_0, 32, 22>(TensorType::q5_0, "q5_0"),
    decodable<decode_q5_1, 32, 24>(TensorType::q5_1, "q5_1"),
    decodable<decode_q8_0, 32, 34>(TensorType::q8_0, "q8_0"),
    decodable<decode_q2_k, 256, 84>(TensorType::q2_k, "q2_k"),
    decodable<decode_q3_k, 256, 110>(TensorType::q3_k, "q3_k"),
    decodable<decode_q4_k, 256, 144>(TensorType::q4_k, "q4_k"),
    decodable<decode_q5_k, 256, 176>(TensorType::q5_k, "q5_k"),
    decodable<decode_q6_k, 256, 210>(TensorType::q6_k, "q6_k"),
    decodable<decode_iq4_nl, 32, 18>(TensorType::iq4_nl, "iq4_nl"),
    decodable<decode_iq4_xs, 256, 136>(TensorType::iq4_xs, "iq4_xs"),
    decodable<decode_mxfp4, 32, 17>(TensorType::mxfp4, "mxfp4"),
    opaque(TensorType::q8_1, "q8_1", 32, 36),
    opaque(TensorType::q8_k, "q8_k", 256, 292),
    opaque(TensorType::iq2_xxs, "iq2_xxs", 256, 66),
    opaque(TensorType::iq2_xs, "iq2_xs", 256, 74),
    opaque(TensorType::iq3_xxs, "iq3_xxs", 256, 98),
    opaque(TensorType::iq1_s, "iq1_s", 256, 50),
    opaque(TensorType::iq3_s, "iq3_s", 256, 110),
    opaque(TensorType::iq2_s, "iq2_s", 256, 82),
    opaque(TensorType::i8, "i8", 1, 1),
    opaque(TensorType::i16, "i16", 1, 2),
    opaque(TensorType::i32, "i32", 1, 4),
    opaque(TensorType::i64, "i64", 1, 8),
    opaque(TensorType::f64, "f64", 1, 8),
    opaque(TensorType::iq1_m, "iq1_m", 256, 56),
    opaque(TensorType::tq1_0, "tq1_0", 256, 54),
    opaque(TensorType::tq2_0, "tq2_0", 256, 66),
    opaque(TensorType::nvfp4, "nvfp4", 64, 36),
    opaque(TensorType::q1_0, "q1_0", 128, 18),
    opaque(TensorType::q2_0, "q2_0", 64, 18),
};

const Entry* find_entry(uint32_t id) {
  for (const Entry& entry : kTypes) {
    if (static_cast<uint32_t>(entry.info.type) == id) return &entry;
  }
  return nullptr;
}

const Entry& entry_of(TensorType type) {
  const Entry* entry = find_entry(static_cast<uint32_t>(type));
  require(entry != nullptr, "tensor type {} is unknown", static_cast<uint32_t>(type));
  return *entry;
}

}  // namespace

const TypeInfo* find_type(uint32_t id) {
  const Entry* entry = find_entry(id);
  return entry != nullptr ? &entry->info : nullptr;
}

const TypeInfo& info(TensorType type) { return entry_of(type).info; }

std::optional<TensorType> type_by_name(std::string_view name) {
  for (const Entry& entry : kTypes) {
    if (entry.info.name == name) return entry.info.type;
  }
  return std::nullopt;
}

bool can_decode(TensorType type) { return entry_of(type).decode != nullptr; }

void decode(TensorType type, std::span<const std::byte> blocks, std::span<float> out) {
  const auto& [info, decode_run] = entry_of(type);
  require(decode_run != nullptr, "decode: there is no decoder for {}", info.name);
  const size_t count = out.size() / info.block_size;
  require(out.size() % info.block_size == 0 && blocks.size() == count * info.block_bytes,
          "decode: {} bytes of {} for {} elements; a block has {} bytes and {} elements",
          blocks.size(), info.name, out.size(), info.block_bytes, info.block_size);
  decode_run(reinterpret_cast<const Byte*>(blocks.data()), count, out.data());
}

int iq4_level(int index) { return kIq4Levels[index]; }
int e2m1_doubled(int bits) { return kE2m1Doubled[bits]; }

}  // namespace ms
