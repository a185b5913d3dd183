// dequant_test.hpp: the cases that the dequant kernels of a file's blocks have in common.
#pragma once
#include "base/tensor_type.hpp"
#include "kernels/lab.hpp"

namespace ms {

template <class Args>
struct DequantCases {
  const gpu::Kernel& kernel;
  TensorType type;
  std::vector<uint32_t> block_counts;  // around a workgroup of either size
  // Beyond 65,535 workgroups, of few lanes.
  uint32_t many_blocks, few_lanes;
  std::string_view beyond;  // what three blocks from 8 on, in a y without room for it, are told
};

// `dequant` is the wrapper, with and without overrides. Every bit is right: f16 is rounded to
// nearest, and what else is rounded, once.
template <class Args>
void check_dequant_cases(Lab& lab, const DequantCases<Args>& cases, auto dequant) {
  const uint32_t block = info(cases.type).block_size;
  const auto y_of = [&](uint64_t elements, bool f16) {
    return lab.output({elements}, f16 ? gpu::Type::f16 : gpu::Type::f32);
  };
  // The first blocks' scales are zeros, subnormals, 65504.
  for (const uint32_t num_blocks : cases.block_counts)
    for (const uint32_t output_offset : {0u, 24u}) {
      const gpu::View quantized = lab.blocks(cases.type, num_blocks);
      const uint64_t elements = output_offset + num_blocks * block + 8;  // 8 are left alone
      const gpu::View f32 = y_of(elements, false), f16 = y_of(elements, true);
      lab.every<typename Args::Overrides>(
          cases.kernel,
          [&](auto over) {
            return dequant(lab.caps(),
                           Args{.quantized = quantized,
                                .y = over.f16_out ? f16 : f32,
                                .num_blocks = num_blocks,
                                .output_offset = output_offset},
                           over);
          },
          exact);
    }

  {
    typename Args::Overrides over{.workgroup_size = cases.few_lanes};
    over.f16_out = true;
    const Args args{.quantized = lab.blocks(cases.type, cases.many_blocks),
                    .y = y_of(uint64_t(cases.many_blocks) * block, true),
                    .num_blocks = cases.many_blocks};
    lab.check(dequant(lab.caps(), args, over), exact);
    lab.check(dequant(lab.caps(), args), exact);
  }

  // Memory beside the elements stays as it is.
  {
    const gpu::View y = lab.values({16 + block}, [](size_t i) { return float(i); });
    lab.device.submit(lab.device.record(dequant(
        lab.caps(),
        Args{
            .quantized = lab.blocks(cases.type, 1), .y = y, .num_blocks = 1, .output_offset = 8})));
    const auto after = lab.read(y);
    for (uint32_t i = 0; i < y.size(); ++i)
      if ((i < 8 || i >= 8 + block) && after[i] != float(i))
        fail("{}: element {} beside y became {}", cases.kernel.name, i, after[i]);
  }

  const gpu::View quantized = lab.blocks(cases.type, 3), y = y_of(3 * block, true);
  const auto refuses = [&](std::string_view what, const Args& args, auto... over) {
    lab.refuses(what, [&] { dequant(lab.caps(), args, over...); });
  };
  refuses("4 blocks are", {.quantized = quantized, .y = y_of(4 * block, true), .num_blocks = 4});
  refuses(cases.beyond, {.quantized = quantized, .y = y, .num_blocks = 3, .output_offset = 8});
  refuses("no multiple of 8",
          {.quantized = quantized, .y = y, .num_blocks = 2, .output_offset = 4});
  typename Args::Overrides to_f32;
  to_f32.f16_out = false;
  refuses("F16_OUT is false", {.quantized = quantized, .y = y, .num_blocks = 3}, to_f32);
}

}  // namespace ms
