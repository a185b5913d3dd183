// dequant_mxfp4_ref.cpp: the CPU twin of dequant_mxfp4.wgsl, in double. It is the specification.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/dequant_mxfp4/dequant_mxfp4.hpp"

namespace ms {

void dequant_mxfp4_ref(const gpu::HostDispatch& d) {
  constexpr double e2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  constexpr double largest = std::numeric_limits<float>::max();
  const auto p = d.params<DequantMxfp4::Params>();
  const auto blocks = d.get<uint8_t>(0), scales = d.get<uint8_t>(1);
  const auto y = d.get<float>(2);
  const size_t cols = size_t(p.num_groups) * p.group_size;
  for (size_t i = 0; i < p.total_elements; ++i) {
    const size_t row = p.expert_idx * size_t(p.out_dim) + i / cols, col = i % cols;
    const int q = blocks[(row * cols + col) / 2] >> (col % 2 * 4) & 15;
    const int e = scales[row * p.num_groups + col / p.group_size];
    const double x = e == 0 || e == 255 ? 0 : std::ldexp(e2m1[q & 7], e - 127);
    y[i / cols * p.row_stride + col] = float(std::min(x, largest) * (q < 8 ? 1 : -1));
  }
}

}  // namespace ms
