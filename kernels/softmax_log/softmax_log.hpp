// softmax_log.hpp: y = log(softmax(x / temperature)), row by row. Masked elements give -3.4e38.
#pragma once
#include "gpu/work.hpp"

namespace ms {

struct SoftmaxLog {
  gpu::View x = {};       // [rows, cols] f32, finite; -3.0e38 and less is masked; absent: in place
  gpu::View y;            // [rows, cols] f32, of another buffer than x
  float temperature = 1;  // 1e-30 to 1e30

  struct Overrides {
    uint32_t workgroup_size = 256;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(64, 1024));
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t rows, cols;
    float temperature;
    uint32_t inplace;
  };
};

extern const gpu::Kernel softmax_log_kernel;

gpu::Work softmax_log(const gpu::Caps& caps, const SoftmaxLog& args);  // chooses the overrides
gpu::Work softmax_log(const gpu::Caps& caps, const SoftmaxLog& args, SoftmaxLog::Overrides over);

}  // namespace ms
