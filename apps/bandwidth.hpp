// bandwidth.hpp: how fast this device moves memory, which benchmarks compare with.
#pragma once
#include <string>

#include "gpu/device.hpp"

namespace ms {

struct Bandwidth {
  double gb_per_s = 0;
  std::string how;
};

// The fastest that large buffers are read by matmul_gemv, f32 with one multiplication a word, or
// copied by scale, bytes of both counted. Weights that stay in a cache are read faster.
Bandwidth measure_bandwidth(gpu::Device& device);

}  // namespace ms
