// dequant_q4k_test.cpp: the cases of dequant_q4k. One rounding of a difference, and f16's: every
// bit is right.
#include "kernels/dequant_q4k/dequant_q4k.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(dequant_q4k) {
  const auto y_of = [&](uint64_t elements, bool f16) {
    return lab.output({elements}, f16 ? gpu::Type::f16 : gpu::Type::f32);
  };
  // Around a workgroup of either size; the first blocks' scales are zeros, subnormals, 65504.
  for (uint32_t num_blocks : {0u, 1u, 7u, 8u, 9u, 31u, 32u, 33u})
    for (uint32_t output_offset : {0u, 24u}) {
      const gpu::View quantized = lab.blocks(TensorType::q4_k, num_blocks);
      const uint64_t elements = output_offset + num_blocks * 256 + 8;  // 8 are left alone
      const gpu::View f32 = y_of(elements, false), f16 = y_of(elements, true);
      lab.every<DequantQ4K::Overrides>(
          dequant_q4k_kernel,
          [&](auto over) {
            return dequant_q4k(lab.caps(),
                               {.quantized = quantized,
                                .y = over.f16_out ? f16 : f32,
                                .num_blocks = num_blocks,
                                .output_offset = output_offset},
                               over);
          },
          exact);
    }

  // Beyond 65,535 workgroups, of 2 lanes.
  {
    const uint32_t num_blocks = 65'536 / 4 + 1;
    const DequantQ4K args{.quantized = lab.blocks(TensorType::q4_k, num_blocks),
                          .y = y_of(uint64_t(num_blocks) * 256, true),
                          .num_blocks = num_blocks};
    lab.check(dequant_q4k(lab.caps(), args, {.workgroup_size = 2, .f16_out = true}), exact);
    lab.check(dequant_q4k(lab.caps(), args), exact);
  }

  // Memory beside the elements stays as it is.
  {
    const gpu::View y = lab.values({16 + 256}, [](size_t i) { return float(i); });
    lab.device.submit(
        lab.device.record(dequant_q4k(lab.caps(), {.quantized = lab.blocks(TensorType::q4_k, 1),
                                                   .y = y,
                                                   .num_blocks = 1,
                                                   .output_offset = 8})));
    const auto after = lab.read(y);
    for (uint32_t i = 0; i < y.size(); ++i)
      if ((i < 8 || i >= 8 + 256) && after[i] != float(i))
        fail("dequant_q4k: element {} beside y became {}", i, after[i]);
  }

  const gpu::View quantized = lab.blocks(TensorType::q4_k, 3), y = y_of(3 * 256, true);
  lab.refuses("4 blocks are", [&] {
    dequant_q4k(lab.caps(), {.quantized = quantized, .y = y_of(4 * 256, true), .num_blocks = 4});
  });
  lab.refuses("end at 776", [&] {
    dequant_q4k(lab.caps(), {.quantized = quantized, .y = y, .num_blocks = 3, .output_offset = 8});
  });
  lab.refuses("no multiple of 8", [&] {
    dequant_q4k(lab.caps(), {.quantized = quantized, .y = y, .num_blocks = 2, .output_offset = 4});
  });
  lab.refuses("F16_OUT is false", [&] {
    dequant_q4k(lab.caps(), {.quantized = quantized, .y = y, .num_blocks = 3}, {.f16_out = false});
  });
  if (!lab.caps().variant.subgroups)
    lab.refuses("USE_SUBGROUPS", [&] {
      dequant_q4k(lab.caps(), {.quantized = quantized, .y = y, .num_blocks = 3},
                  {.use_subgroups = true, .f16_out = true});
    });
}

}  // namespace ms
