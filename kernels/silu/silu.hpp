// silu.hpp: y = silu(x + bias), or silu(gate + bias) * up (SwiGLU; Shazeer, 2020).
//
// silu(x) = x / (1 + exp(-x)).
#pragma once
#include "kernels/gate.hpp"

namespace ms {

struct Silu {
  gpu::View input = {};  // [rows, dim] f32, or [rows, 2 * dim] unless separate; absent: in place
  gpu::View gate = {};   // [rows, dim] f32, separate only; absent: no gate
  gpu::View bias = {};   // [dim] f32, added to what is activated
  gpu::View y;           // [rows, dim] f32, of no input's buffer; in place, it is the input too; or
                         // f16, dim even, not in place
  GateLayout layout = GateLayout::separate;

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool use_vec4 = false;
    bool f16_out = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing);
      v("USE_VEC4", use_vec4, {false, true});
      v("F16_OUT", f16_out, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t size, dim;
    uint32_t has_gate, has_bias, gate_layout, inplace;
  };
};

extern const gpu::Kernel silu_kernel;

// Four elements a lane where that still makes enough lanes to fill a device.
gpu::Work silu(const gpu::Caps& caps, const Silu& args);
gpu::Work silu(const gpu::Caps& caps, const Silu& args, Silu::Overrides over);

}  // namespace ms
