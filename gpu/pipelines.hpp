// pipelines.hpp: the pipeline cache: (kernel, entry, variant, constants) -> pipeline, each compiled
// once.
//
// Thread-safe. Compiles run on Dawn's threads, all of a request at once. A failed compile leaves
// nothing behind and is an Error that names the kernel, the constants and the compiler's line. For
// gpu/ only.
#pragma once
#include <functional>
#include <future>
#include <map>
#include <mutex>
#include <span>
#include <vector>

#include "gpu/handle.hpp"
#include "gpu/shader.hpp"

namespace ms::gpu {

class PipelineCache {
 public:
  // as_constants: every override goes into the text, as a `const` (shader.hpp: with_constants).
  PipelineCache(WGPUInstance instance, WGPUDevice device, Variant variant,
                std::span<const WgslSource> sources, bool as_constants = false);

  // The pipelines of these dispatches, in order; equal keys give the same pipeline.
  std::vector<WGPUComputePipeline> get(std::span<const Dispatch> dispatches,
                                       const std::function<void(size_t, size_t)>& progress = {});
  // Starts their compiles, and leaves them to get().
  void begin(std::span<const Dispatch> dispatches);
  WGPUBindGroupLayout layout(const Kernel& kernel);
  size_t compiles() const;  // started so far, of pipelines

 private:
  struct Key {
    const Kernel* kernel;
    std::string_view entry;
    Variant variant;
    Constants constants;  // of prelude and overrides
    auto operator<=>(const Key&) const = default;
  };
  Key key_of(const Dispatch& d) const { return {d.kernel, d.entry, variant_, d.constants}; }
  using Future = std::shared_future<std::shared_ptr<Pipeline>>;
  struct Layout {
    BindGroupLayout group;
    PipelineLayout pipeline;
  };

  // Of the pipelines of these dispatches, in order, each started at most once. Under the mutex.
  std::vector<Future> futures(std::span<const Dispatch> dispatches);
  Future start(const Key& key);
  WGPUShaderModule module(const Key& key);
  const Layout& layouts(const Kernel& kernel);

  WGPUInstance instance_;
  WGPUDevice device_;
  Variant variant_;
  std::span<const WgslSource> sources_;
  bool as_constants_;
  mutable std::mutex mutex_;
  std::map<const Kernel*, Layout> layouts_;
  std::map<std::pair<const Kernel*, Constants>, ShaderModule>
      modules_;  // by the constants in its text
  std::map<Key, Future> pipelines_;
  size_t started_ = 0;
};

}  // namespace ms::gpu
