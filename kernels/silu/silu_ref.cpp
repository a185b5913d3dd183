// silu_ref.cpp: the CPU twin of silu.wgsl, in double. It is the specification.
#include <cmath>

#include "kernels/silu/silu.hpp"

namespace ms {

void silu_ref(const gpu::HostDispatch& d) {
  const auto p = d.params<Silu::Params>();
  const auto input = d.get<float>(0), gate = d.get<float>(1), bias = d.get<float>(2),
             y = d.get<float>(3);
  for (size_t i = 0; i < p.size; ++i) {
    const size_t row = i / p.dim, col = i % p.dim;
    double x = 0, up = 1;
    if (!p.has_gate) {
      x = p.inplace ? y[i] : input[i];
    } else {
      switch (Silu::Layout(p.gate_layout)) {
        case Silu::Layout::separate:
          x = gate[i];
          up = p.inplace ? y[i] : input[i];
          break;
        case Silu::Layout::interleaved:
          x = input[2 * i];
          up = input[2 * i + 1];
          break;
        case Silu::Layout::split:
          x = input[i];
          up = input[p.size + i];
          break;
        case Silu::Layout::row_split:
          x = input[row * 2 * p.dim + col];
          up = input[row * 2 * p.dim + p.dim + col];
          break;
      }
    }
    if (p.has_bias) x += bias[col];
    y[i] = float(x / (1 + std::exp(-x)) * up);
  }
}

}  // namespace ms
