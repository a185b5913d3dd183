// bandwidth.cpp: timing large reads and copies.
#include "apps/bandwidth.hpp"

#include <algorithm>
#include <chrono>

#include "apps/common.hpp"
#include "kernels/kernels.hpp"

namespace ms {

using Clock = std::chrono::steady_clock;

Bandwidth measure_bandwidth(gpu::Device& device) {
  constexpr uint32_t cols = 4096;
  const gpu::Caps& caps = device.caps();
  Bandwidth best;
  const auto try_out = [&](const gpu::Work& work, uint64_t bytes, std::string_view how) {
    const gpu::Recording recording = device.record(work);
    const auto seconds = [&](uint32_t times) {
      const auto start = Clock::now();
      for (uint32_t i = 0; i < times; ++i) device.submit(recording);
      device.finish();
      return std::chrono::duration<double>(Clock::now() - start).count() / times;
    };
    seconds(1);  // Dawn clears the memory before its first use
    const uint32_t times = uint32_t(std::clamp(0.1 / seconds(1), 1.0, 256.0));
    for (int repeat = 0; repeat < 3; ++repeat) {
      const double gb_per_s = double(bytes) / seconds(times) / 1e9;
      if (gb_per_s > best.gb_per_s)
        best = {gb_per_s, fmt::format("{} of {}", how, binary_bytes(bytes))};
    }
  };
  for (const uint64_t bytes : {128ull << 20, 512ull << 20, 1536ull << 20}) {
    if (bytes > std::min(caps.max_binding_bytes, caps.max_buffer_bytes)) break;
    if (caps.memory_bytes && 4 * bytes > caps.memory_bytes) break;  // two buffers, and room to live
    const uint64_t words = bytes / 4, rows = words / cols;
    const auto from = device.buffer(bytes, "bandwidth"), to = device.buffer(bytes, "bandwidth, to");
    const auto x = device.buffer(cols * 4, "x");
    const Weight weight{.type = WeightType::f32,
                        .rows = uint32_t(rows),
                        .cols = cols,
                        .quants = gpu::view(from, {words}, gpu::Type::u32),
                        .row_tile = choose_row_tile(caps)};
    try_out(
        matmul_gemv(
            caps, {.x = gpu::view(x, {1, cols}), .weight = weight, .y = gpu::view(to, {1, rows})}),
        bytes, "matmul_gemv's reading");
    try_out(scale(caps, {.x = gpu::view(from, {words}), .y = gpu::view(to, {words})}), 2 * bytes,
            "scale's copying");
  }
  return best;
}

}  // namespace ms
