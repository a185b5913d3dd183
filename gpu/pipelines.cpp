// pipelines.cpp: compiling kernels into pipelines, each once.
#include "gpu/pipelines.hpp"

#include <algorithm>

namespace ms::gpu {

namespace {

// The compiler's words about a module, first error first; empty when it is fine.
std::string module_errors(WGPUInstance instance, WGPUShaderModule module, std::string_view source) {
  struct Out {
    std::string errors;
    std::string_view source;
  } out{{}, source};
  WGPUCompilationInfoCallbackInfo info = WGPU_COMPILATION_INFO_CALLBACK_INFO_INIT;
  info.mode = WGPUCallbackMode_WaitAnyOnly;
  info.userdata1 = &out;
  info.callback = [](WGPUCompilationInfoRequestStatus, const WGPUCompilationInfo* compilation,
                     void* user, void*) {
    auto& out = *static_cast<Out*>(user);
    for (size_t i = 0; compilation && i < compilation->messageCount; ++i) {
      const WGPUCompilationMessage& message = compilation->messages[i];
      if (message.type != WGPUCompilationMessageType_Error) continue;
      std::string_view rest = out.source;
      for (uint64_t line = 1; line < message.lineNum && !rest.empty(); ++line)
        rest.remove_prefix(std::min(rest.find('\n'), rest.size() - 1) + 1);
      out.errors += fmt::format("\n  line {}: {}\n    {}", message.lineNum, text(message.message),
                                rest.substr(0, rest.find('\n')));
    }
  };
  WGPUFutureWaitInfo wait = WGPU_FUTURE_WAIT_INFO_INIT;
  wait.future = wgpuShaderModuleGetCompilationInfo(module, info);
  wgpuInstanceWaitAny(instance, 1, &wait, UINT64_MAX);
  return out.errors;
}

}  // namespace

PipelineCache::PipelineCache(WGPUInstance instance, WGPUDevice device, Variant variant,
                             std::span<const WgslSource> sources, bool as_constants)
    : instance_(instance),
      device_(device),
      variant_(variant),
      sources_(sources),
      as_constants_(as_constants) {}

const PipelineCache::Layout& PipelineCache::layouts(const Kernel& kernel) {
  auto [found, fresh] = layouts_.try_emplace(&kernel);
  if (!fresh) return found->second;
  std::vector<WGPUBindGroupLayoutEntry> entries(kernel.bindings.size() + 1,
                                                WGPU_BIND_GROUP_LAYOUT_ENTRY_INIT);
  for (uint32_t i = 0; i < entries.size(); ++i) {
    entries[i].binding = i;
    entries[i].visibility = WGPUShaderStage_Compute;
    entries[i].buffer.type = i == 0                         ? WGPUBufferBindingType_Uniform
                             : kernel.bindings[i - 1] == in ? WGPUBufferBindingType_ReadOnlyStorage
                                                            : WGPUBufferBindingType_Storage;
  }
  WGPUBindGroupLayoutDescriptor group = WGPU_BIND_GROUP_LAYOUT_DESCRIPTOR_INIT;
  group.label = text(kernel.name);
  group.entryCount = entries.size();
  group.entries = entries.data();
  found->second.group.reset(wgpuDeviceCreateBindGroupLayout(device_, &group));
  WGPUPipelineLayoutDescriptor pipeline = WGPU_PIPELINE_LAYOUT_DESCRIPTOR_INIT;
  pipeline.label = text(kernel.name);
  const WGPUBindGroupLayout raw = found->second.group.get();
  pipeline.bindGroupLayoutCount = 1;
  pipeline.bindGroupLayouts = &raw;
  found->second.pipeline.reset(wgpuDeviceCreatePipelineLayout(device_, &pipeline));
  return found->second;
}

WGPUBindGroupLayout PipelineCache::layout(const Kernel& kernel) {
  const std::lock_guard lock(mutex_);
  return layouts(kernel).group.get();
}

WGPUShaderModule PipelineCache::module(const Key& key) {
  Constants in_text = key.constants;
  if (!as_constants_) std::erase_if(in_text, [](const Constant& c) { return !c.prelude; });
  auto& slot = modules_[{key.kernel, in_text}];
  if (slot) return slot.get();
  const std::string source =
      with_constants(compose(sources_, key.kernel->name, variant_, in_text), in_text);
  WGPUShaderSourceWGSL wgsl = WGPU_SHADER_SOURCE_WGSL_INIT;
  wgsl.code = text(std::string_view(source));
  WGPUShaderModuleDescriptor descriptor = WGPU_SHADER_MODULE_DESCRIPTOR_INIT;
  descriptor.nextInChain = &wgsl.chain;
  descriptor.label = text(key.kernel->name);
  // The error is read from the compilation info, with its line; the scope keeps it from being
  // reported twice.
  wgpuDevicePushErrorScope(device_, WGPUErrorFilter_Validation);
  ShaderModule made(wgpuDeviceCreateShaderModule(device_, &descriptor));
  WGPUPopErrorScopeCallbackInfo pop = WGPU_POP_ERROR_SCOPE_CALLBACK_INFO_INIT;
  pop.mode = WGPUCallbackMode_WaitAnyOnly;
  pop.callback = [](WGPUPopErrorScopeStatus, WGPUErrorType, WGPUStringView, void*, void*) {};
  WGPUFutureWaitInfo wait = WGPU_FUTURE_WAIT_INFO_INIT;
  wait.future = wgpuDevicePopErrorScope(device_, pop);
  wgpuInstanceWaitAny(instance_, 1, &wait, UINT64_MAX);
  if (const std::string errors = module_errors(instance_, made.get(), source); !errors.empty())
    fail("kernel {} does not compile for {} with {}:{}", key.kernel->name, to_string(variant_),
         to_string(key.constants), errors);
  slot = std::move(made);
  return slot.get();
}

PipelineCache::Future PipelineCache::start(const Key& key) {
  const WGPUShaderModule source = module(key);
  ++started_;
  std::vector<WGPUConstantEntry> entries;
  for (const Constant& c : key.constants) {
    if (c.prelude || as_constants_) continue;
    WGPUConstantEntry entry = WGPU_CONSTANT_ENTRY_INIT;
    entry.key = text(c.name);
    entry.value = c.value;
    entries.push_back(entry);
  }
  WGPUComputePipelineDescriptor descriptor = WGPU_COMPUTE_PIPELINE_DESCRIPTOR_INIT;
  const std::string label = fmt::format("{} {}", key.kernel->name, to_string(key.constants));
  descriptor.label = text(std::string_view(label));
  descriptor.layout = layouts(*key.kernel).pipeline.get();
  descriptor.compute.module = source;
  descriptor.compute.entryPoint = text(key.entry);
  descriptor.compute.constantCount = entries.size();
  descriptor.compute.constants = entries.data();

  struct Pending {
    std::promise<std::shared_ptr<Pipeline>> promise;
    std::string label;
  };
  auto* pending = new Pending{{}, label};
  Future future = pending->promise.get_future().share();
  WGPUCreateComputePipelineAsyncCallbackInfo info =
      WGPU_CREATE_COMPUTE_PIPELINE_ASYNC_CALLBACK_INFO_INIT;
  info.mode = WGPUCallbackMode_AllowSpontaneous;  // from Dawn's compile threads
  info.userdata1 = pending;
  info.callback = [](WGPUCreatePipelineAsyncStatus status, WGPUComputePipeline raw,
                     WGPUStringView message, void* user, void*) {
    const std::unique_ptr<Pending> pending(static_cast<Pending*>(user));
    if (status == WGPUCreatePipelineAsyncStatus_Success)
      pending->promise.set_value(std::make_shared<Pipeline>(raw));
    else
      pending->promise.set_exception(std::make_exception_ptr(
          Error(fmt::format("pipeline {}: {}", pending->label, text(message)))));
  };
  wgpuDeviceCreateComputePipelineAsync(device_, &descriptor, info);
  return future;
}

std::vector<PipelineCache::Future> PipelineCache::futures(std::span<const Dispatch> dispatches) {
  std::vector<Future> result;
  for (const Dispatch& d : dispatches) {
    const Key key = key_of(d);
    auto found = pipelines_.find(key);
    if (found == pipelines_.end()) found = pipelines_.emplace(key, start(key)).first;
    result.push_back(found->second);
  }
  return result;
}

void PipelineCache::begin(std::span<const Dispatch> dispatches) {
  const std::lock_guard lock(mutex_);
  futures(dispatches);
}

std::vector<WGPUComputePipeline> PipelineCache::get(
    std::span<const Dispatch> dispatches, const std::function<void(size_t, size_t)>& progress) {
  std::vector<Future> futures;
  {
    const std::lock_guard lock(mutex_);
    futures = this->futures(dispatches);
  }
  std::vector<WGPUComputePipeline> result;
  for (size_t i = 0; i < futures.size(); ++i) {
    // Dawn finishes on its own threads, but hands some results over only when it is asked.
    while (futures[i].wait_for(std::chrono::milliseconds(1)) != std::future_status::ready)
      wgpuInstanceProcessEvents(instance_);
    try {
      result.push_back(futures[i].get()->get());
    } catch (...) {
      const std::lock_guard lock(mutex_);
      for (const Dispatch& d : dispatches) {  // every failed one of this request
        const auto found = pipelines_.find(key_of(d));
        if (found == pipelines_.end() ||
            found->second.wait_for(std::chrono::seconds(0)) != std::future_status::ready)
          continue;
        try {
          found->second.get();
        } catch (...) {
          pipelines_.erase(found);
        }
      }
      throw;
    }
    if (progress) progress(i + 1, futures.size());
  }
  return result;
}

size_t PipelineCache::compiles() const {
  const std::lock_guard lock(mutex_);
  return started_;
}

}  // namespace ms::gpu
