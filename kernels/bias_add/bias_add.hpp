// bias_add.hpp: adds a bias to each row, in place.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct BiasAdd {
  gpu::View bias;  // [dim] f32
  gpu::View data;  // [rows, dim] f32, in place; of another buffer than bias

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) { v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing); }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t num_tokens, dim;
  };
};

extern const gpu::Kernel bias_add_kernel;

gpu::Work bias_add(const gpu::Caps& caps, const BiasAdd& args, BiasAdd::Overrides over = {});

}  // namespace ms
