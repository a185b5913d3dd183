// weight.hpp: the packed layout of weights that matmul, matmul_gemv, matmul_gemv_residual,
// fused_ffn and gather share, and the host's way to and from it.
//
// A tensor [rows, cols] is rows of blocks of 32 weights, padded with zeros to an even number of
// blocks, so that every row starts on a whole word. `quants` holds what is 16 bytes wide, block
// after block; `scales` the rest:
//
//   type       quants, bytes a block                scales, u32
//   f32        128                                  -
//   f16, bf16  64                                   -
//   q8_0       32: int8                             f16 scale, two blocks a word
//   q4_0       16: low nibbles 0..15, high 16..31   the same
//   q4_1       16                                   1 a block: f16 scale | f16 minimum << 16
//   q5_0       16                                   3 a pair of blocks: f16 scales, the fifth bits
//   of
//                                                   each
//   q5_1       16                                   2 a block: f16 scale | f16 minimum << 16, fifth
//   bits q2_k       8: bits 2 j of byte k of word h are  5 a super-block of 8: d | dmin << 16, then
//   16 bytes
//              weight 16 h + 4 j + k                of a 4-bit scale and minimum
//   q3_k       8                                    13 a super-block: the third bits of each block,
//   16
//                                                   int8 scales, d
//   q4_k       16                                   4 a super-block: d | dmin << 16, 12 bytes of
//   6-bit
//                                                   scales and minima
//   q5_k       16                                   12 a super-block: as q4_k, fifth bits of each
//   block q6_k       16: low nibbles                      3 a block: high bits of 16, of 16 more,
//                                                   int8 x 2 | d << 16
//   iq4_nl     16: indices of levels                f16 scale, two blocks a word
//   iq4_xs     16                                   2 a super-block: d | high scale bits << 16, low
//   ones mxfp4      16: E2M1                             exponent, two blocks a word
//
// Blocks lie row after row; or, with a ROW_TILE of T, block after block of T rows at a time: those
// rows' first blocks, their second ones, and so on. Super-blocks of scales likewise.
#pragma once
#include <optional>
#include <span>
#include <vector>

#include "base/tensor_type.hpp"
#include "gpu/work.hpp"

namespace ms {

// WEIGHT_TYPE of the kernels. Their numbers are part of the kernels' interface.
enum class WeightType : uint32_t {
  f32 = 0,
  f16 = 1,
  bf16 = 2,
  q8_0 = 3,
  q4_0 = 4,
  q4_1 = 5,
  q5_0 = 6,
  q5_1 = 7,
  q2_k = 8,
  q3_k = 9,
  q4_k = 10,
  q5_k = 11,
  q6_k = 12,
  iq4_nl = 13,
  iq4_xs = 14,
  mxfp4 = 15
};

// For visit(): the first four are tested with every combination of the other overrides, the rest
// with some (gpu::every).
inline constexpr std::initializer_list<uint32_t> all_weight_types = {0, 1, 2, 3, 4,  5,  10, 12,
                                                                     6, 7, 8, 9, 11, 13, 14, 15};

// The kernels' type for a file's; nothing when they have none.
std::optional<WeightType> weight_type(TensorType type);
TensorType tensor_type(WeightType type);
std::string_view to_string(WeightType type);
std::span<const WeightType> weight_types();  // all of them
constexpr bool is_float(WeightType type) { return uint32_t(type) <= uint32_t(WeightType::bf16); }

// A packed tensor in device memory. Does not own.
struct Weight {
  WeightType type = WeightType::f32;
  uint32_t rows = 0, cols = 0;
  gpu::View quants = {};  // u32
  gpu::View scales = {};  // u32; absent for float types
  uint32_t row_tile = 1;  // ROW_TILE of the kernels that read it

  uint32_t row_blocks() const { return (cols + 63) / 64 * 2; }
  explicit operator bool() const { return rows != 0; }
  // A float matrix as it is, its rows after each other without padding: told by its quants' type.
  bool plain() const { return quants && quants.type != gpu::Type::u32; }
};

// The tile that suits a device: software reads memory lane by lane, and keeps to few streams so.
uint32_t choose_row_tile(const gpu::Caps& caps);

// Words of the packed form of `rows` rows, the last tile filled up.
uint64_t quant_words(WeightType type, uint64_t rows, uint64_t cols, uint32_t row_tile = 1);
uint64_t scale_words(WeightType type, uint64_t rows, uint64_t cols, uint32_t row_tile = 1);

// The part of a weight that one dispatch reads: of `experts` matrices, one behind the other, rows
// first_row to first_row + rows. Of several matrices all rows.
struct WeightPart {
  Weight weight;  // of experts * rows rows
  uint32_t first_expert = 0, experts = 1;
  uint32_t first_row = 0, rows = 0;
};

// A weight of num_experts matrices in parts whose bindings the device allows, most often one: of
// whole matrices if one fits. Rows are cut at multiples of `multiple`, and where bindings may
// start. Throws std::invalid_argument, in the name of `kernel`, when the least part does not fit.
std::vector<WeightPart> split_rows(std::string_view kernel, const gpu::Caps& caps,
                                   const Weight& weight, uint32_t num_experts = 1,
                                   uint32_t multiple = 1);

// Packs row `row` of a tensor, given as a file has it, into the tensor's words, zeros before. Rows
// of different tiles may be packed at once.
void pack_row(WeightType type, uint64_t row, uint64_t cols, std::span<const std::byte> data,
              std::span<uint32_t> quants, std::span<uint32_t> scales, uint32_t row_tile = 1);

// Row `row` of a packed tensor as floats, exactly: the reference that the twins use.
void unpack_row(WeightType type, uint64_t row, uint64_t cols, std::span<const uint32_t> quants,
                std::span<const uint32_t> scales, std::span<float> out, uint32_t row_tile = 1);

}  // namespace ms
