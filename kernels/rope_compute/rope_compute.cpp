// rope_compute.cpp: the wrapper of rope_compute.wgsl.
#include "kernels/rope_compute/rope_compute.hpp"

#include <cmath>

namespace ms {

void rope_compute_ref(const gpu::HostDispatch& d);
const gpu::Kernel rope_compute_kernel =
    gpu::kernel<RopeCompute>("rope_compute", {gpu::out}, rope_compute_ref);

namespace {

using Mode = RopeScaling::Mode;
using Real = long double;

// A number in 64 bits of which `bits` are its fraction: below 2^(64 - bits), or the largest.
uint64_t fixed(Real value, int bits) {
  const Real scaled = std::ldexp(value, bits);
  return scaled < 0x1p64l ? uint64_t(scaled) : UINT64_MAX;
}

void set(uint32_t& high, uint32_t& low, uint64_t value) {
  high = uint32_t(value >> 32);
  low = uint32_t(value);
}

// What of the params makes the frequencies; the rest is 0.
RopeCompute::Params frequencies(const RopeScaling& s, uint32_t rotary_dim, double base) {
  RopeCompute::Params p = {};
  p.rotary_dim = rotary_dim;
  p.scaling_mode = uint32_t(s.mode);
  p.attention_factor = float(rope_attention_factor(s));
  const Real dim = rotary_dim;
  Real step = std::pow(Real(base), -2 / dim);
  if (s.mode == Mode::ntk) step *= std::pow(Real(s.factor), -2 / (dim - 2));
  set(p.step_high, p.step_low, fixed(step, 64));
  set(p.loss_high, p.loss_low, fixed(1 - 1 / Real(s.factor), 64));
  if (s.mode == Mode::yarn) {
    const auto [first, last] = rope_yarn_ramp(s, rotary_dim, base);
    p.ramp_first = first;
    p.ramp_last = last;
    if (last > first) set(p.slope_high, p.slope_low, fixed(1 / Real(last - first), 64));
  }
  if (s.mode == Mode::llama3) {
    const uint64_t fast = fixed(s.high_freq_factor / s.original_context, 64),
                   slow = fixed(s.low_freq_factor / s.original_context, 64);
    set(p.fast_high, p.fast_low, fast);
    set(p.slow_high, p.slow_low, slow);
    set(p.slope_high, p.slope_low, fixed(1 / std::ldexp(Real(fast - slow), -64), 32));
  }
  return p;
}

}  // namespace

gpu::Work rope_compute(const gpu::Caps&, const RopeCompute& a, RopeCompute::Overrides over) {
  gpu::check(rope_compute_kernel, over);
  require(a.x && a.x.type == gpu::Type::f32 && a.x.shape.rank == 3,
          "rope_compute: x is {}, wants [rows, heads, head_dim] f32", a.x);
  require(a.x.size() <= UINT32_MAX, "rope_compute: x is {}, at most 2^32 - 1 elements", a.x);
  const uint32_t rows = a.x.shape[0], heads = a.x.shape[1], width = a.x.shape[2];
  require(!a.fused_qk || width % 2 == 0, "rope_compute: x is {}, whose heads are not Q | K", a.x);
  const uint32_t head_dim = a.fused_qk ? width / 2 : width;
  const uint32_t rotary_dim = a.rotary_dim ? a.rotary_dim : head_dim;
  require(rotary_dim <= head_dim, "rope_compute: {} dimensions rotate, heads have {}", rotary_dim,
          head_dim);
  require(uint64_t(a.start_pos) + rows <= UINT32_MAX,
          "rope_compute: {} rows from position {} pass 2^32 - 1", rows, a.start_pos);

  const RopeScaling& s = a.scaling;
  check_rope_scaling(s, rotary_dim, a.base);
  require(s.factors.empty(), "rope_compute: pairs with factors of their own want rope_precomputed");
  require(s.factor >= 1, "rope_compute: the scaling factor is {}, wants at least 1", s.factor);
  require(s.mode != Mode::llama3 || s.high_freq_factor < s.original_context,
          "rope_compute: high_freq_factor {} is not below the original context of {}",
          s.high_freq_factor, s.original_context);
  require(s.mode != Mode::llama3 ||
              s.high_freq_factor - s.low_freq_factor > 0x1p-31 * s.original_context,
          "rope_compute: low_freq_factor {} and high_freq_factor {} are too close",
          s.low_freq_factor, s.high_freq_factor);

  RopeCompute::Params params = frequencies(s, rotary_dim, a.base);
  params.seq_len = rows;
  params.num_heads = heads;
  params.head_dim = head_dim;
  params.start_pos = a.start_pos;
  params.interleaved = a.interleaved;
  params.fused_qk = a.fused_qk;
  constexpr uint32_t heads_a_lane = 8;  // HEADS in the kernel
  const uint64_t all_heads = uint64_t(heads) << params.fused_qk;
  const uint64_t lanes = rows * ((all_heads + heads_a_lane - 1) / heads_a_lane) * (rotary_dim / 2);
  return gpu::Dispatch{.kernel = &rope_compute_kernel,
                       .constants = gpu::constants(over),
                       .bindings = {a.x},
                       .params = gpu::bytes(params),
                       .grid = gpu::fold((lanes + over.workgroup_size - 1) / over.workgroup_size)};
}

}  // namespace ms
