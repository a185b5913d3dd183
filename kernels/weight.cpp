// weight.cpp: packing blocks as files have them into the layout of the kernels, and reading it
// back.
#include "kernels/weight.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/half.hpp"

namespace ms {

namespace {

struct Layout {
  WeightType type;
  TensorType file;
  std::string_view name;
  uint32_t quants;  // words a block of 32
  uint32_t scales;  // words a super-block of 8 blocks
};
constexpr Layout layouts[] = {
    {WeightType::f32, TensorType::f32, "f32", 32, 0},
    {WeightType::f16, TensorType::f16, "f16", 16, 0},
    {WeightType::bf16, TensorType::bf16, "bf16", 16, 0},
    {WeightType::q8_0, TensorType::q8_0, "q8_0", 8, 4},
    {WeightType::q4_0, TensorType::q4_0, "q4_0", 4, 4},
    {WeightType::q4_1, TensorType::q4_1, "q4_1", 4, 8},
    {WeightType::q5_0, TensorType::q5_0, "q5_0", 4, 12},
    {WeightType::q5_1, TensorType::q5_1, "q5_1", 4, 16},
    {WeightType::q2_k, TensorType::q2_k, "q2_k", 2, 5},
    {WeightType::q3_k, TensorType::q3_k, "q3_k", 2, 13},
    {WeightType::q4_k, TensorType::q4_k, "q4_k", 4, 4},
    {WeightType::q5_k, TensorType::q5_k, "q5_k", 4, 12},
    {WeightType::q6_k, TensorType::q6_k, "q6_k", 4, 24},
    {WeightType::iq4_nl, TensorType::iq4_nl, "iq4_nl", 4, 4},
    {WeightType::iq4_xs, TensorType::iq4_xs, "iq4_xs", 4, 2},
    {WeightType::mxfp4, TensorType::mxfp4, "mxfp4", 4, 4},
};

const Layout& layout(WeightType type) {
  for (const Layout& l : layouts)
    if (l.type == type) return l;
  throw std::invalid_argument(fmt::format("no weight type {}", uint32_t(type)));
}

uint64_t padded_blocks(uint64_t cols) { return (cols + 63) / 64 * 2; }
uint64_t tiled_rows(uint64_t rows, uint32_t tile) { return (rows + tile - 1) / tile * tile; }

uint8_t byte_at(std::span<const std::byte> data, size_t i) { return uint8_t(data[i]); }
uint16_t half_at(std::span<const std::byte> data, size_t i) {
  return uint16_t(byte_at(data, i) | byte_at(data, i + 1) << 8);
}

void copy_words(std::span<const std::byte> from, std::span<uint32_t> to) {
  std::memcpy(to.data(), from.data(), std::min(from.size(), to.size_bytes()));
}

void put_half(std::span<uint32_t> words, size_t i, uint16_t value) {
  words[i / 2] |= uint32_t(value) << (i % 2 * 16);
}

// The low bits of a block's 32 numbers, a byte each, four a word.
using Block = std::array<uint32_t, 8>;

// 16 bytes whose byte i holds number i in its low and number i + 16 in its high nibble.
void put_nibbles(std::span<uint32_t> words, const Block& q) {
  for (size_t w = 0; w < 4; ++w) words[w] = (q[w] & 0x0f0f0f0f) | (q[w + 4] & 0x0f0f0f0f) << 4;
}

// 8 bytes: number 16 h + 4 j + k is at bits 2 j of byte k of word h.
void put_pairs(std::span<uint32_t> words, const Block& q) {
  for (size_t i = 0; i < 8; ++i) words[i / 4] |= (q[i] & 0x03030303) << (i % 4 * 2);
}

// A word whose bit i is that of number i.
uint32_t bits_of(const Block& q) {
  uint32_t bits = 0;
  for (size_t w = 0; w < 8; ++w)  // the product brings bits 0, 8, 16 and 24 side by side to the top
    bits |= ((q[w] & 0x01010101) * 0x10204080u >> 28) << (4 * w);
  return bits;
}

// Where a row's blocks and super-blocks of 8 are, counted from the tensor's start.
struct Places {
  uint64_t row, row_blocks, tile;

  uint64_t block(uint64_t b) const { return (row / tile * row_blocks + b) * tile + row % tile; }
  uint64_t super_block(uint64_t b) const {
    return (row / tile * (row_blocks / 8) + b) * tile + row % tile;
  }
};

}  // namespace

std::optional<WeightType> weight_type(TensorType type) {
  for (const Layout& l : layouts)
    if (l.file == type) return l.type;
  return std::nullopt;
}

TensorType tensor_type(WeightType type) { return layout(type).file; }
std::string_view to_string(WeightType type) { return layout(type).name; }

std::span<const WeightType> weight_types() {
  static const auto all = [] {
    std::array<WeightType, std::size(layouts)> types;
    for (size_t i = 0; i < types.size(); ++i) types[i] = layouts[i].type;
    return types;
  }();
  return all;
}

uint32_t choose_row_tile(const gpu::Caps& caps) { return caps.cpu ? 8 : 1; }

uint64_t quant_words(WeightType type, uint64_t rows, uint64_t cols, uint32_t row_tile) {
  return tiled_rows(rows, row_tile) * padded_blocks(cols) * layout(type).quants;
}
uint64_t scale_words(WeightType type, uint64_t rows, uint64_t cols, uint32_t row_tile) {
  return tiled_rows(rows, row_tile) * padded_blocks(cols) * layout(type).scales / 8;
}

std::vector<WeightPart> split_rows(std::string_view kernel, const gpu::Caps& caps, const Weight& w,
                                   uint32_t num_experts, uint32_t multiple) {
  constexpr uint64_t alignment = 256;  // of a binding's start
  const uint64_t rows = w.rows / num_experts;
  const auto elements = [&](uint64_t n, bool scales) {
    if (w.plain()) return scales ? 0 : n * w.cols;
    return scales ? scale_words(w.type, n, w.cols, w.row_tile)
                  : quant_words(w.type, n, w.cols, w.row_tile);
  };
  const auto bytes = [&](uint64_t n) {  // of the larger binding, which ends at a multiple of 16
    const uint64_t size = std::max(elements(n, false) * bytes_of(w.quants.type),
                                   elements(n, true) * bytes_of(w.scales.type));
    return (size + 15) / 16 * 16;
  };
  if (bytes(w.rows) <= caps.max_binding_bytes) return {{w, 0, num_experts, 0, uint32_t(rows)}};

  // Parts are multiples of so many rows.
  uint64_t unit = std::lcm<uint64_t>(w.row_tile, multiple);
  for (const bool scales : {false, true}) {
    const uint64_t tile_bytes =
        elements(w.row_tile, scales) * bytes_of(scales ? w.scales.type : w.quants.type);
    unit = std::lcm(unit, alignment / std::gcd(alignment, tile_bytes) * w.row_tile);
  }
  std::vector<WeightPart> parts;
  const auto slice = [&](uint64_t first, uint64_t n) {
    Weight part = w;
    part.rows = uint32_t(n);
    part.quants = w.quants.slice(elements(first, false), {elements(n, false)});
    if (w.scales) part.scales = w.scales.slice(elements(first, true), {elements(n, true)});
    return part;
  };
  const auto most = [&](uint64_t step) {  // rows, in steps, that fit
    return caps.max_binding_bytes / bytes(step) * step;
  };
  if (const uint64_t whole = std::lcm(unit, rows); num_experts > 1 && most(whole)) {
    for (uint64_t first = 0; first < w.rows; first += most(whole)) {
      const uint64_t n = std::min(most(whole), w.rows - first);
      parts.push_back(
          {slice(first, n), uint32_t(first / rows), uint32_t(n / rows), 0, uint32_t(rows)});
    }
    return parts;
  }
  require(most(unit) && (num_experts == 1 || rows % unit == 0),
          "{}: a weight {} [{}, {}] takes {} bytes; one binding of {} holds {}, too few for a part "
          "of {} rows",
          kernel, to_string(w.type), w.rows, w.cols, bytes(w.rows), caps.name,
          caps.max_binding_bytes, num_experts == 1 ? unit : std::lcm(unit, rows));
  for (uint64_t expert = 0; expert < num_experts; ++expert)
    for (uint64_t first = 0; first < rows; first += most(unit)) {
      const uint64_t n = std::min(most(unit), rows - first);
      parts.push_back(
          {slice(expert * rows + first, n), uint32_t(expert), 1, uint32_t(first), uint32_t(n)});
    }
  return parts;
}

void pack_row(WeightType type, uint64_t row, uint64_t cols, std::span<const std::byte> data,
              std::span<uint32_t> quants, std::span<uint32_t> scales, uint32_t row_tile) {
  const TypeInfo& file = info(tensor_type(type));
  require(cols % file.block_size == 0, "{} weights need columns in multiples of {}, got {}",
          file.name, file.block_size, cols);
  require(data.size() == cols / file.block_size * file.block_bytes,
          "a row of {} {} weights has {} bytes, got {}", cols, file.name,
          cols / file.block_size * file.block_bytes, data.size());
  require(quants.size() >= quant_words(type, row + 1, cols, row_tile) &&
              scales.size() >= scale_words(type, row + 1, cols, row_tile),
          "packed {}, row {} of {} columns: too little room", file.name, row, cols);
  const Places at{row, padded_blocks(cols), row_tile};
  const size_t words = layout(type).quants;
  const auto quants_of = [&](size_t b) { return quants.subspan(at.block(b) * words, words); };
  if (is_float(type)) {
    for (size_t b = 0; 4 * words * b < data.size(); ++b)
      copy_words(data.subspan(4 * words * b), quants_of(b));
    return;
  }
  // Bytes are where base/tensor_type.cpp says.
  const size_t blocks = file.block_size / 32;  // of a file's block
  for (size_t n = 0; n < data.size() / file.block_bytes; ++n) {
    const auto raw = data.subspan(n * file.block_bytes, file.block_bytes);
    const auto byte = [&](size_t i) { return byte_at(raw, i); };
    const size_t block = at.block(n);
    const auto super_scales = [&] {
      const size_t count = layout(type).scales;
      return scales.subspan(count * at.super_block(n), count);
    };
    // A block's numbers, whose bits begin at bit `shift` of 32 bytes from byte i on.
    const auto block_at = [&](size_t i, size_t shift) {
      Block q;
      std::memcpy(q.data(), &raw[i], sizeof(q));
      for (uint32_t& word : q) word >>= shift;
      return q;
    };
    const auto put = [&](auto block_of, auto put_block) {
      for (size_t b = 0; b < blocks; ++b) put_block(quants_of(n * blocks + b), block_of(b));
    };
    switch (type) {
      case WeightType::q8_0:
      case WeightType::q4_0:
      case WeightType::iq4_nl:
        put_half(scales, block, half_at(raw, 0));
        copy_words(raw.subspan(2), quants_of(n));
        break;
      case WeightType::q4_1:
        copy_words(raw.first(4), scales.subspan(block, 1));
        copy_words(raw.subspan(4), quants_of(n));
        break;
      case WeightType::q5_0:
        put_half(scales.subspan(block / 2 * 3), block % 2, half_at(raw, 0));
        copy_words(raw.subspan(2, 4), scales.subspan(block / 2 * 3 + 1 + block % 2, 1));
        copy_words(raw.subspan(6), quants_of(n));
        break;
      case WeightType::q5_1:
        copy_words(raw.first(8), scales.subspan(2 * block, 2));
        copy_words(raw.subspan(8), quants_of(n));
        break;
      case WeightType::q2_k: {
        const auto s = super_scales();
        copy_words(raw.subspan(80, 4), s);
        copy_words(raw.first(16), s.subspan(1));
        put([&](size_t b) { return block_at(16 + b / 4 * 32, b % 4 * 2); }, put_pairs);
        break;
      }
      case WeightType::q3_k: {
        const auto s = super_scales();
        for (size_t b = 0; b < 8; ++b) s[b] = bits_of(block_at(0, b));
        for (size_t j = 0; j < 16; ++j) {
          const int low = byte(96 + j % 8) >> (j / 8 * 4) & 15,
                    high = byte(104 + j % 4) >> (j / 4 * 2) & 3;
          s[8 + j / 4] |= uint32_t(uint8_t((low | high << 4) - 32)) << (j % 4 * 8);
        }
        s[12] = half_at(raw, 108);
        put([&](size_t b) { return block_at(32 + b / 4 * 32, b % 4 * 2); }, put_pairs);
        break;
      }
      case WeightType::q4_k:
        copy_words(raw.first(16), super_scales());
        put([&](size_t b) { return block_at(16 + b / 2 * 32, b % 2 * 4); }, put_nibbles);
        break;
      case WeightType::q5_k: {
        const auto s = super_scales();
        copy_words(raw.first(16), s.first(4));
        for (size_t b = 0; b < 8; ++b) s[4 + b] = bits_of(block_at(16, b));
        put([&](size_t b) { return block_at(48 + b / 2 * 32, b % 2 * 4); }, put_nibbles);
        break;
      }
      case WeightType::iq4_xs:
        copy_words(raw.first(8), super_scales());
        for (size_t b = 0; b < 8; ++b)
          copy_words(raw.subspan(8 + 16 * b, 16), quants_of(8 * n + b));
        break;
      case WeightType::mxfp4:
        put_half(scales, block, byte(0));
        copy_words(raw.subspan(1), quants_of(n));
        break;
      default:  // q6_k
        for (size_t b = 0; b < 8; ++b) {
          const auto s = scales.subspan(3 * at.block(8 * n + b), 3);
          put_pairs(s, block_at(128 + b / 4 * 32, b % 4 * 2));
          s[2] = byte(192 + 2 * b) | byte(193 + 2 * b) << 8 | uint32_t(half_at(raw, 208)) << 16;
        }
        put([&](size_t b) { return block_at(b / 4 * 64 + b % 2 * 32, b % 4 / 2 * 4); },
            put_nibbles);
        break;
    }
  }
}

void unpack_row(WeightType type, uint64_t row, uint64_t cols, std::span<const uint32_t> quants,
                std::span<const uint32_t> scales, std::span<float> out, uint32_t row_tile) {
  const Places at{row, padded_blocks(cols), row_tile};
  const size_t words = layout(type).quants;
  const auto half = [](uint32_t word, size_t i) {
    return f16_to_f32(uint16_t(word >> (i % 2 * 16)));
  };
  for (uint64_t col = 0; col < cols; ++col) {
    const size_t b = at.block(col / 32), i = col % 32;
    const auto q = quants.subspan(b * words, words);
    const auto nibble = [&] { return int(q[i % 16 / 4] >> (i % 4 * 8 + i / 16 * 4) & 15); };
    const auto pair = [&] { return int(q[i / 16] >> (i % 4 * 8 + i % 16 / 4 * 2) & 3); };
    const auto bit = [&](uint32_t word, int shift) { return int(word >> i & 1) << shift; };
    const size_t part = col / 32 % 8;  // of a super-block
    const auto super_scales = [&] {
      const size_t count = layout(type).scales;
      return scales.subspan(count * at.super_block(col / 256), count);
    };
    // The 6-bit scale and minimum of q4_k and q5_k, times d and dmin.
    const auto scale_min = [&](std::span<const uint32_t> s) {
      const auto byte = [&](size_t k) { return s[1 + k / 4] >> (k % 4 * 8) & 255; };
      const size_t j = part;
      const uint32_t scale = j < 4 ? byte(j) & 63 : (byte(j + 4) & 15) | byte(j - 4) >> 6 << 4;
      const uint32_t least = j < 4 ? byte(j + 4) & 63 : byte(j + 4) >> 4 | byte(j) >> 6 << 4;
      return std::pair(half(s[0], 0) * float(scale), half(s[0], 1) * float(least));
    };
    switch (type) {
      case WeightType::f32:
        out[col] = std::bit_cast<float>(q[i]);
        break;
      case WeightType::f16:
        out[col] = half(q[i / 2], i);
        break;
      case WeightType::bf16:
        out[col] = bf16_to_f32(uint16_t(q[i / 2] >> (i % 2 * 16)));
        break;
      case WeightType::q8_0:
        out[col] = half(scales[b / 2], b) * float(int8_t(q[i / 4] >> (i % 4 * 8)));
        break;
      case WeightType::q4_0:
        out[col] = half(scales[b / 2], b) * float(nibble() - 8);
        break;
      case WeightType::q4_1:
        out[col] = half(scales[b], 0) * float(nibble()) + half(scales[b], 1);
        break;
      case WeightType::q5_0: {
        const auto s = scales.subspan(b / 2 * 3, 3);
        out[col] = half(s[0], b) * float((nibble() | bit(s[1 + b % 2], 4)) - 16);
        break;
      }
      case WeightType::q5_1: {
        const auto s = scales.subspan(2 * b, 2);
        out[col] = half(s[0], 0) * float(nibble() | bit(s[1], 4)) + half(s[0], 1);
        break;
      }
      case WeightType::q2_k: {
        const auto s = super_scales();
        const size_t j = 2 * part + i / 16;
        const uint32_t both = s[1 + j / 4] >> (j % 4 * 8);
        out[col] = half(s[0], 0) * float(both & 15) * float(pair()) -
                   half(s[0], 1) * float(both >> 4 & 15);
        break;
      }
      case WeightType::q3_k: {
        const auto s = super_scales();
        const size_t j = 2 * part + i / 16;
        out[col] = half(s[12], 0) * float(int8_t(s[8 + j / 4] >> (j % 4 * 8))) *
                   float((pair() | bit(s[part], 2)) - 4);
        break;
      }
      case WeightType::q4_k: {
        const auto [scale, least] = scale_min(super_scales());
        out[col] = scale * float(nibble()) - least;
        break;
      }
      case WeightType::q5_k: {
        const auto s = super_scales();
        const auto [scale, least] = scale_min(s);
        out[col] = scale * float(nibble() | bit(s[4 + part], 4)) - least;
        break;
      }
      case WeightType::iq4_nl:
        out[col] = half(scales[b / 2], b) * float(iq4_level(nibble()));
        break;
      case WeightType::iq4_xs: {
        const auto s = super_scales();
        const int scale = int((s[1] >> (4 * part) & 15) | (s[0] >> (16 + 2 * part) & 3) << 4) - 32;
        out[col] = half(s[0], 0) * float(scale) * float(iq4_level(nibble()));
        break;
      }
      case WeightType::mxfp4:
        out[col] = std::ldexp(float(e2m1_doubled(nibble())),
                              int(scales[b / 2] >> (b % 2 * 16) & 255) - 128);
        break;
      case WeightType::q6_k: {
        const auto s = scales.subspan(3 * b, 3);
        const int high = int(s[i / 16] >> (i % 4 * 8 + i % 16 / 4 * 2) & 3);
        out[col] = half(s[2], 1) * float(int8_t(s[2] >> (i / 16 * 8))) *
                   float((nibble() | high << 4) - 32);
        break;
      }
    }
  }
}

}  // namespace ms
