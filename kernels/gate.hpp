// gate.hpp: where a gated activation, y = act(x) * up, finds x and up: for silu and gelu.
#pragma once
#include <span>
#include <utility>

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

// Whether lanes take four elements each where a caller does not say: with 65,536 lanes at least.
inline bool has_gate_fours(const gpu::View& y) { return y.size() >= 1 << 18; }

// The workgroups of a kernel that includes shared/gate.wgsl, with these of its overrides.
gpu::Grid gate_grid(uint64_t size, uint32_t workgroup_size, bool use_vec4, bool f16_out);

}  // namespace ms
