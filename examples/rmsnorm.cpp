// rmsnorm.cpp: one kernel on its own, on whatever device there is: two rows of four, normalised.
#include <mainspring/kernels.hpp>

int main() {
  using namespace ms;
  const auto device = gpu::Device::open({.sources = wgsl_sources()});
  const auto x = device->buffer(32, "x"), weight = device->buffer(16, "weight"),
             y = device->buffer(32, "y");
  const float values[] = {1, 2, 3, 4, 5, 6, 7, 8}, ones[] = {1, 1, 1, 1};
  device->write(*x, 0, std::as_bytes(std::span(values)));
  device->write(*weight, 0, std::as_bytes(std::span(ones)));
  const RmsNorm arguments = {
      .x = gpu::view(x, {2, 4}), .weight = gpu::view(weight, {4}), .y = gpu::view(y, {2, 4})};
  device->submit(device->record(rmsnorm(device->caps(), arguments)));
  float result[8];
  std::memcpy(result, device->read(*y, 0, sizeof result).data(), sizeof result);
  for (float value : result) fmt::print("{:.4f} ", value);
}
