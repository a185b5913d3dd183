// gate.cpp: what the gated activations require of their arguments.
#include "kernels/gate.hpp"

namespace ms {

void check_gate(std::string_view kernel, GateLayout layout, const gpu::View& input,
                const gpu::View& gate, const gpu::View& y, bool f16_out) {
  const bool separate = layout == GateLayout::separate;
  const uint64_t size = y.size(), input_size = separate ? size : 2 * size;
  const auto fits = [](const gpu::View& v, uint64_t n) {
    return v && v.type == gpu::Type::f32 && v.size() == n;
  };
  require(y && y.type == (f16_out ? gpu::Type::f16 : gpu::Type::f32),
          "{}: y is {}, wants f32, or f16 with F16_OUT, {}", kernel, y, f16_out);
  require(!f16_out || y.cols() % 2 == 0, "{}: y is {}: of f16 it has an even number of columns",
          kernel, y);
  require((separate && !f16_out) || input,
          "{}: only the separate layout works in place, and f32 alone", kernel);
  require(!input || fits(input, input_size), "{}: input is {}, wants {} elements for y {}", kernel,
          input, input_size, y);
  require(separate || !gate, "{}: gate is {}, but the layout puts the gates into input", kernel,
          gate);
  require(!gate || fits(gate, size), "{}: gate is {}, y is {}", kernel, gate, y);
  require(input_size <= UINT32_MAX, "{}: {} elements, at most 2^32 - 1", kernel, input_size);
}

gpu::Grid gate_grid(uint64_t size, uint32_t workgroup_size, bool use_vec4, bool f16_out) {
  const uint32_t per_group = workgroup_size * (use_vec4 ? 4 : f16_out ? 2 : 1);
  return gpu::fold((size + per_group - 1) / per_group);
}

}  // namespace ms
