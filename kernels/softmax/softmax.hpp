// softmax.hpp: y = softmax(x / temperature), row by row. A fully masked row gives zeros.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct Softmax {
  gpu::View x = {};       // [rows, cols] f32, finite; -3.0e38 and less is masked; absent: in place
  gpu::View y;            // [rows, cols] f32, of another buffer than x
  float temperature = 1;  // 1e-30 to 1e30: 0, which means greedy, is an argmax

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool small_size = false;
    bool online = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(64, 1024));
      v("SMALL_SIZE", small_size, {false, true});
      v("ONLINE", online, {false, true});
    }
    std::string_view refusal() const {
      return small_size && online ? "SMALL_SIZE reads each element once: there is no pass to save"
                                  : "";
    }
  };
  struct Params {
    uint32_t rows, cols;
    float temperature;
    uint32_t inplace;
  };
};

extern const gpu::Kernel softmax_kernel;

gpu::Work softmax(const gpu::Caps& caps, const Softmax& args);  // chooses the overrides
gpu::Work softmax(const gpu::Caps& caps, const Softmax& args, Softmax::Overrides over);

}  // namespace ms
