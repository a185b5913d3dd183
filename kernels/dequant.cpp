// dequant.cpp: what the dequant kernels require, and the body of their twins.
#include "kernels/dequant.hpp"

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

void dequant_ref(const gpu::HostDispatch& d, TensorType type, uint32_t num_blocks,
                 uint32_t output_offset, bool f16_out) {
  std::vector<float> elements(uint64_t(num_blocks) * info(type).block_size);
  const auto quantized = d.get<std::byte>(0);
  decode(type, quantized.first(uint64_t(num_blocks) * info(type).block_bytes), elements);
  for (size_t i = 0; i < elements.size(); ++i) d.store(1, output_offset + i, elements[i], f16_out);
}

}  // namespace ms
