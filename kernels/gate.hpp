// gate.hpp: where a gated activation, y = act(x) * up, finds x and up: for silu and gelu.
#pragma once
#include <algorithm>
#include <span>
#include <utility>

#include "base/half.hpp"
#include "gpu/work.hpp"

namespace ms {

// x in `gate`, ups in `input`; or both in input: in pairs (x, up); all x, then all ups; the same in
// each row. As numbered in shared/gate.wgsl.
enum class GateLayout : uint32_t { separate, interleaved, split, row_split };

// Throws std::invalid_argument, in the name of `kernel`, unless these fit: y [rows, dim] f32, or
// f16 with f16_out, dim even; input as large or, unless separate, twice as large, or absent: in
// place, of f32; gate as input, if separate, or absent.
void check_gate(std::string_view kernel, GateLayout layout, const gpu::View& input,
                const gpu::View& gate, const gpu::View& y, bool f16_out);

// For twins: {x, up} of y[i], as shared/gate.wgsl finds them. up is 1 without has_gate.
template <class Params>
std::pair<double, double> gate_operands(const Params& p, std::span<const float> input,
                                        std::span<const float> gate, std::span<const float> y,
                                        size_t i) {
  const size_t row = i / p.dim;
  const double own = p.inplace ? y[i] : input[i];
  if (!p.has_gate) return {own, 1};
  switch (GateLayout(p.gate_layout)) {
    case GateLayout::interleaved:
      return {input[2 * i], input[2 * i + 1]};
    case GateLayout::split:
      return {input[i], input[p.size + i]};
    case GateLayout::row_split:
      return {input[i + row * p.dim], input[i + (row + 1) * p.dim]};
    default:
      return {gate[i], own};
  }
}

// What a twin's kernel stores in element i of binding y, f32 or f16.
inline void store_gated(const gpu::HostDispatch& d, size_t y, bool f16_out, size_t i,
                        double value) {
  if (f16_out)
    d.get<uint16_t>(y)[i] = f32_to_f16(std::clamp(float(value), -65504.0f, 65504.0f));
  else
    d.get<float>(y)[i] = float(value);
}

}  // namespace ms
