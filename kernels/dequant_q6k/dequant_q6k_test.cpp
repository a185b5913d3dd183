// dequant_q6k_test.cpp: the cases of dequant_q6k. Nothing is rounded but f16.
#include "kernels/dequant_q6k/dequant_q6k.hpp"

#include "kernels/dequant_test.hpp"

namespace ms {

KERNEL_TEST(dequant_q6k) {
  const auto dequant = [](const auto&... args) { return dequant_q6k(args...); };
  check_dequant_cases<DequantQ6K>(lab,
                                  {.kernel = dequant_q6k_kernel,
                                   .type = TensorType::q6_k,
                                   .block_counts = {0, 1, 3, 4, 7, 8, 9, 33},
                                   .many_blocks = 65'536 / 2 + 1,
                                   .few_lanes = 4,
                                   .beyond = "end at 776"},
                                  dequant);
}

}  // namespace ms
