// tensor_type.hpp: the element types that model files hold, their blocks, and a plain decoder of
// each.
//
// Numbers are GGML's type ids, as GGUF stores them. One copy of each scalar block decoder, for
// twins, loaders and quantisers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace ms {

// clang-format off
enum class TensorType : uint32_t {
  f32 = 0, f16 = 1, q4_0 = 2, q4_1 = 3, q5_0 = 6, q5_1 = 7, q8_0 = 8, q8_1 = 9,
  q2_k = 10, q3_k = 11, q4_k = 12, q5_k = 13, q6_k = 14, q8_k = 15,
  iq2_xxs = 16, iq2_xs = 17, iq3_xxs = 18, iq1_s = 19, iq4_nl = 20, iq3_s = 21, iq2_s = 22,
  iq4_xs = 23, i8 = 24, i16 = 25, i32 = 26, i64 = 27, f64 = 28, iq1_m = 29, bf16 = 30,
  tq1_0 = 34, tq2_0 = 35, mxfp4 = 39, nvfp4 = 40, q1_0 = 41, q2_0 = 42,
};
// clang-format on

struct TypeInfo {
  TensorType type;
  std::string_view name;  // as GGML spells it, lower case: "q4_k"
  uint32_t block_size;    // elements a block
  uint32_t block_bytes;   // bytes a block
};

// The description of a type id, or nothing when the id is unknown.
const TypeInfo* find_type(uint32_t id);
const TypeInfo& info(TensorType type);
// By name, as in "q8_0"; nothing when unknown.
std::optional<TensorType> type_by_name(std::string_view name);

// Whether decode() knows the type: f32, f16, bf16, q4_0 .. q8_0, q2_k .. q6_k, iq4_nl, iq4_xs,
// mxfp4.
bool can_decode(TensorType type);
// Decodes whole blocks, at any address: blocks holds out.size() / block_size blocks. Throws
// std::invalid_argument on a type that it does not know and on sizes that disagree.
void decode(TensorType type, std::span<const std::byte> blocks, std::span<float> out);

// The 16 levels of iq4_nl and iq4_xs, and twice those of E2M1, the 4-bit float of mxfp4 (OCP
// microscaling formats, 2023).
int iq4_level(int index);
int e2m1_doubled(int bits);

}  // namespace ms
