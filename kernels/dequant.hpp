// dequant.hpp: what the dequant kernels have in common: blocks as they lie in a file, to f32 or
// f16.
#pragma once
#include "base/tensor_type.hpp"
#include "gpu/work.hpp"

namespace ms {

// Throws std::invalid_argument, in the name of `kernel`, unless `quantized` holds num_blocks blocks
// of the type, and y, f16 or f32, their elements from output_offset on.
void check_dequant(std::string_view kernel, TensorType type, const gpu::View& quantized,
                   const gpu::View& y, uint32_t num_blocks, uint32_t output_offset, bool f16_out);

// For twins: elements [output_offset, …) of binding 1 are those of binding 0's blocks.
void dequant_ref(const gpu::HostDispatch& d, TensorType type, uint32_t num_blocks,
                 uint32_t output_offset, bool f16_out);

}  // namespace ms
