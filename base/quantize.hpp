// quantize.hpp: plain quantisers, for tests, synthetic weights and simple conversion.
//
// Each block gets the smallest scale that spans its values, which are then rounded to the nearest
// step: valid blocks, good error, no search for the best scale.
#pragma once
#include <cstddef>
#include <random>
#include <span>
#include <vector>

#include "base/tensor_type.hpp"

namespace ms {

// Whether quantize() knows the type: f32, f16, bf16, q4_0, q4_1, q8_0, q4_k, q6_k.
bool can_quantize(TensorType type);

// Encodes whole blocks: blocks has room for exactly values.size() / block_size blocks. Throws
// std::invalid_argument on another type, on sizes that disagree, and on values that are not finite
// (except to the float types). Values whose scale exceeds f16 saturate.
void quantize(TensorType type, std::span<const float> values, std::span<std::byte> blocks);
std::vector<std::byte> quantize(TensorType type, std::span<const float> values);

// Blocks of random bits, of any type that decode() knows; scales, and the values of float types,
// are such that no value is beyond +-largest.
std::vector<std::byte> random_blocks(TensorType type, uint64_t count, float largest,
                                     std::mt19937& rng);

}  // namespace ms
