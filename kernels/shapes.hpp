// shapes.hpp: the kernels at the shapes of models, for `mainspring bench --kernels`: what is timed,
// and a check of the same pipelines at sizes whose twins are quick.
#pragma once
#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "kernels/lab.hpp"

namespace ms {

// The tensors of a shape. For timing they are large, so that they are filled by a pattern of 1 MiB,
// again and again; for a check they are a lab's.
class Tensors {
 public:
  explicit Tensors(gpu::Device& device) : device_(device) {}
  // The tensors of a check, whose work takes the overrides that the timed one has for the kernel.
  Tensors(Lab& lab, const gpu::Work& timed, std::string_view kernel)
      : device_(lab.device), lab_(&lab) {
    for (const gpu::Dispatch& d : timed.dispatches)
      if (!timed_ && d.kernel->name == kernel) timed_ = &d.constants;
  }

  const gpu::Caps& caps() const { return device_.caps(); }
  bool checks() const { return lab_ != nullptr; }
  // n, or for a check no more than `most`.
  uint32_t few(uint32_t n, uint32_t most) const { return checks() ? std::min(n, most) : n; }

  // Numbers in [-1, 1), for a check in [-size, size); of f16 and of weights without a check in
  // [2^-5, 2^-4): any bytes would make some scales infinite.
  gpu::View f32(gpu::Shape shape, float size = 1);
  gpu::View f16(gpu::Shape shape);
  gpu::View bits(gpu::Shape shape);  // u32, any
  gpu::View ids(gpu::Shape shape, uint32_t below);
  // Its rows in the device's tiles, or in those of row_tile.
  Weight weight(WeightType type, uint32_t rows, uint32_t cols, uint32_t row_tile = 0);
  gpu::View blocks(TensorType type, uint32_t elements);  // as they lie in a file, words
  gpu::View out(gpu::Shape shape, gpu::Type type = gpu::Type::f32);
  gpu::View zeros(gpu::Shape shape);    // u32
  gpu::View scratch(gpu::Shape shape);  // u32, zeros, of no meaning afterwards
  KvCache cache(KvType type, uint32_t rows, uint32_t kv_heads, uint32_t head_dim);
  AttentionParts parts(uint32_t rows, uint32_t heads, uint32_t head_dim, uint32_t splits, bool f16);
  gpu::View words(gpu::Shape shape, std::span<const std::byte> bytes);  // u32, these
  gpu::View slot_at(uint32_t position);                                 // running

  // The wrapper's work: with the overrides that it chooses, or for a check those of the timed work.
  template <class Args>
  gpu::Work run(auto wrapper, const Args& args) const {
    if (!timed_) return wrapper(caps(), args);
    return wrapper(caps(), args, gpu::overrides<typename Args::Overrides>(*timed_));
  }

 private:
  enum class Fill { floats, halves, any };
  gpu::View filled(gpu::Shape shape, gpu::Type type, Fill fill);

  gpu::Device& device_;
  Lab* lab_ = nullptr;
  const gpu::Constants* timed_ = nullptr;
  std::vector<gpu::BufferPtr> memory_;
};

struct ModelShape {
  std::string_view kernel;
  std::string what;         // whose shape, and the extents
  double bytes = 0;         // read and written, each once
  double flops = 0;         // of products; 0: none to speak of
  bool arithmetic = false;  // bound by that, not by memory
  Tolerance tolerance = {};
  std::function<gpu::Work(Tensors&)> make = {};
};

// Of every kernel some, sorted by it. A CPU gets a 64th of the rows.
std::vector<ModelShape> model_shapes(const gpu::Caps& caps);

// Runs the shape's work, made smaller where its twin would take long, beside the twin. Throws Error
// where they differ, or where the work runs other pipelines than the timed one.
void check_shape(gpu::Device& device, const ModelShape& shape, const gpu::Work& timed);

}  // namespace ms
