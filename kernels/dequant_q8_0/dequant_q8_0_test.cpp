// dequant_q8_0_test.cpp: the cases of dequant_q8_0. Nothing is rounded but f16.
#include "kernels/dequant_q8_0/dequant_q8_0.hpp"

#include "kernels/dequant_test.hpp"

namespace ms {

KERNEL_TEST(dequant_q8_0) {
  const auto dequant = [](const auto&... args) { return dequant_q8_0(args...); };
  check_dequant_cases<DequantQ80>(lab,
                                  {.kernel = dequant_q8_0_kernel,
                                   .type = TensorType::q8_0,
                                   .block_counts = {0, 1, 7, 8, 63, 64, 65, 257},
                                   .many_blocks = 65'536 * 2 + 1,
                                   .few_lanes = 2,
                                   .beyond = "end at 104"},
                                  dequant);
}

}  // namespace ms
