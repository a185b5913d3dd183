// rmsnorm.hpp: y = x / sqrt(mean(x^2) + eps) * weight, row by row (Zhang and Sennrich, 2019).
#pragma once
#include "gpu/work.hpp"

namespace ms {

enum class Residual : uint32_t { none, after, before };  // added, in respect of the norm

struct RmsNorm {
  gpu::View x;              // [rows, cols] f32
  gpu::View weight;         // [cols] f32
  gpu::View residual = {};  // [rows, cols] f32, with has_residual
  gpu::View y;              // [rows, cols] f32, of no input's buffer; or f16, cols even
  gpu::View prenorm = {};   // [rows, cols] f32: what the norm was taken of, written when given
  Residual has_residual = Residual::none;
  float eps = 1e-6f;

  struct Overrides {
    uint32_t workgroup_size = 256;
    bool small_size = false;
    bool cache_input = false;
    bool f16_out = false;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 256u}, gpu::sizing.powers_to(64, 1024));
      v("SMALL_SIZE", small_size, {false, true});
      v("CACHE_INPUT", cache_input, {false, true});
      v("F16_OUT", f16_out, {false, true});
    }
    std::string_view refusal() const {
      if (small_size && cache_input)
        return "SMALL_SIZE reads each element once: there is nothing to cache";
      if (small_size && f16_out) return "SMALL_SIZE has one element a lane, F16_OUT stores two";
      return "";
    }
  };
  struct Params {
    uint32_t rows, cols;
    float eps;
    uint32_t has_residual, output_prenorm;
  };
};

extern const gpu::Kernel rmsnorm_kernel;

gpu::Work rmsnorm(const gpu::Caps& caps, const RmsNorm& args);  // chooses the overrides
gpu::Work rmsnorm(const gpu::Caps& caps, const RmsNorm& args, RmsNorm::Overrides over);

}  // namespace ms
