// gelu.hpp: y = gelu(x), or gelu(gate) * up (GEGLU; Shazeer, 2020); the tanh form of GELU, or
// the exact one.
#pragma once
#include "kernels/gate.hpp"

namespace ms {

struct Gelu {
  gpu::View input = {};  // [rows, dim] f32, or [rows, 2 * dim] unless separate; absent: in place
  gpu::View gate = {};   // [rows, dim] f32, separate only; absent: no gate
  gpu::View y;           // [rows, dim] f32, of no input's buffer; in place, it is the input too; or
                         // f16, dim even, not in place
  GateLayout layout = GateLayout::separate;
  bool erf = false;  // x / 2 (1 + erf(x / sqrt(2))), as in BERT

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
    uint32_t has_gate, gate_layout, inplace, erf;
  };
};

extern const gpu::Kernel gelu_kernel;

// Four elements a lane where that still makes enough lanes to fill a device.
gpu::Work gelu(const gpu::Caps& caps, const Gelu& args);
gpu::Work gelu(const gpu::Caps& caps, const Gelu& args, Gelu::Overrides over);

}  // namespace ms
