// dequant.cpp: what the dequant kernels require, and the body of their twins.
#include "kernels/dequant.hpp"

#include <algorithm>

#include "base/half.hpp"

namespace ms {

void check_dequant(std::string_view kernel, TensorType type, const gpu::View& quantized,
                   const gpu::View& y, uint32_t num_blocks, uint32_t output_offset, bool f16_out) {
  const auto [id, name, block_size, block_bytes] = info(type);
  const uint64_t bytes = uint64_t(num_blocks) * block_bytes,
                 elements = output_offset + uint64_t(num_blocks) * block_size;
  require(quantized.type == gpu::Type::u32 && quantized.bytes() >= bytes,
          "{}: quantized is {}, {} blocks are {} bytes", kernel, quantized, num_blocks, bytes);
  require(y.type == (f16_out ? gpu::Type::f16 : gpu::Type::f32), "{}: F16_OUT is {}, y is {}",
          kernel, f16_out, y);
  require(y.size() >= elements, "{}: y is {}, {} blocks from {} on end at {}", kernel, y,
          num_blocks, output_offset, elements);
  require(output_offset % 8 == 0, "{}: output_offset is {}, no multiple of 8", kernel,
          output_offset);
  require(bytes <= UINT32_MAX && elements <= UINT32_MAX,
          "{}: {} blocks from {} on, more than 2^32 - 1 bytes or elements", kernel, num_blocks,
          output_offset);
}

void store_ref(std::span<std::byte> y, size_t i, float value, bool f16_out) {
  const uint16_t half = f32_to_f16(std::clamp(value, -65504.0f, 65504.0f));
  if (f16_out)
    std::memcpy(&y[2 * i], &half, sizeof half);
  else
    std::memcpy(&y[4 * i], &value, sizeof value);
}

void dequant_ref(TensorType type, std::span<const std::byte> quantized, std::span<std::byte> y,
                 uint32_t num_blocks, uint32_t output_offset, bool f16_out) {
  std::vector<float> elements(uint64_t(num_blocks) * info(type).block_size);
  decode(type, quantized.first(uint64_t(num_blocks) * info(type).block_bytes), elements);
  for (size_t i = 0; i < elements.size(); ++i)
    store_ref(y, output_offset + i, elements[i], f16_out);
}

}  // namespace ms
