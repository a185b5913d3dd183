// dequant_q4k_test.cpp: the cases of dequant_q4k. One rounding of a difference, and f16's.
#include "kernels/dequant_q4k/dequant_q4k.hpp"

#include "kernels/dequant_test.hpp"

namespace ms {

KERNEL_TEST(dequant_q4k) {
  const auto dequant = [](const auto&... args) { return dequant_q4k(args...); };
  check_dequant_cases<DequantQ4K>(lab,
                                  {.kernel = dequant_q4k_kernel,
                                   .type = TensorType::q4_k,
                                   .block_counts = {0, 1, 7, 8, 9, 31, 32, 33},
                                   .many_blocks = 65'536 / 4 + 1,
                                   .few_lanes = 2,
                                   .beyond = "end at 776"},
                                  dequant);
  const gpu::View quantized = lab.blocks(TensorType::q4_k, 3),
                  y = lab.output({3 * 256}, gpu::Type::f16);
  if (!lab.caps().variant.subgroups)
    lab.refuses("USE_SUBGROUPS", [&] {
      dequant_q4k(lab.caps(), {.quantized = quantized, .y = y, .num_blocks = 3},
                  {.use_subgroups = true, .f16_out = true});
    });
}

}  // namespace ms
