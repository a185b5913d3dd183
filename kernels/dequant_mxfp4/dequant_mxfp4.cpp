// dequant_mxfp4.cpp: the wrapper of dequant_mxfp4.wgsl.
#include "kernels/dequant_mxfp4/dequant_mxfp4.hpp"

namespace ms {

using gpu::in, gpu::out;

void dequant_mxfp4_ref(const gpu::HostDispatch& d);
const gpu::Kernel dequant_mxfp4_kernel =
    gpu::kernel<DequantMxfp4>("dequant_mxfp4", {in, in, out}, dequant_mxfp4_ref);

gpu::Work dequant_mxfp4(const gpu::Caps& caps, const DequantMxfp4& a) {
  // On a GPU a store a lane keeps what neighbours write side by side.
  return dequant_mxfp4(caps, a, {.use_vec4 = caps.cpu, .expert = a.num_experts > 1});
}

gpu::Work dequant_mxfp4(const gpu::Caps&, const DequantMxfp4& a, DequantMxfp4::Overrides over) {
  gpu::check(dequant_mxfp4_kernel, over);
  const uint32_t rows = a.y.rows(), row_stride = a.y.cols(), cols = a.cols ? a.cols : row_stride;
  require(a.y && a.y.type == gpu::Type::f32, "dequant_mxfp4: y is {}, wants f32", a.y);
  require(cols <= row_stride, "dequant_mxfp4: y is {}, for {} columns", a.y, cols);
  require(row_stride % 4 == 0, "dequant_mxfp4: y is {}, its rows no multiple of 4", a.y);
  require(a.group_size % 8 == 0 && a.group_size > 0 && cols % a.group_size == 0,
          "dequant_mxfp4: {} columns in groups of {}: whole ones, of a multiple of 8", cols,
          a.group_size);
  require(over.expert ? a.expert_idx < a.num_experts : a.expert_idx == 0 && a.num_experts == 1,
          "dequant_mxfp4: expert {} of {}, EXPERT is {}", a.expert_idx, a.num_experts, over.expert);
  const uint32_t num_groups = cols / a.group_size;
  const uint64_t groups = uint64_t(rows) * num_groups * a.num_experts;
  require(groups <= UINT32_MAX / a.group_size && a.y.size() <= UINT32_MAX,
          "dequant_mxfp4: {} groups of {}, y {}: more than 2^32 - 1 elements", groups, a.group_size,
          a.y);
  require(a.blocks.type == gpu::Type::u32 && a.blocks.size() >= groups * a.group_size / 8,
          "dequant_mxfp4: blocks are {}, want {} words", a.blocks, groups * a.group_size / 8);
  require(a.scales.type == gpu::Type::u32 && a.scales.bytes() >= groups,
          "dequant_mxfp4: scales are {}, want {} bytes", a.scales, groups);

  const uint32_t total = rows * cols, per_group = over.workgroup_size * (over.use_vec4 ? 32 : 16);
  return gpu::Dispatch{
      .kernel = &dequant_mxfp4_kernel,
      .constants = gpu::constants(over),
      .bindings = {a.blocks, a.scales, a.y},
      .params = gpu::bytes(DequantMxfp4::Params{total, num_groups, a.group_size, row_stride,
                                                a.expert_idx, a.num_experts, rows}),
      .grid = gpu::fold((uint64_t(total) + per_group - 1) / per_group)};
}

}  // namespace ms
