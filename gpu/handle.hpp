// handle.hpp: RAII over webgpu.h. For gpu/ only.
#pragma once
#include <webgpu/webgpu.h>

#include <memory>
#include <string>
#include <string_view>

namespace ms::gpu {

template <auto Release>
struct Releaser {
  void operator()(auto* raw) const { Release(raw); }
};
template <class T, auto Release>
using Handle = std::unique_ptr<std::remove_pointer_t<T>, Releaser<Release>>;

using Instance = Handle<WGPUInstance, wgpuInstanceRelease>;
using Adapter = Handle<WGPUAdapter, wgpuAdapterRelease>;
using RawDevice = Handle<WGPUDevice, wgpuDeviceRelease>;
using Queue = Handle<WGPUQueue, wgpuQueueRelease>;
using RawBuffer = Handle<WGPUBuffer, wgpuBufferRelease>;
using ShaderModule = Handle<WGPUShaderModule, wgpuShaderModuleRelease>;
using BindGroupLayout = Handle<WGPUBindGroupLayout, wgpuBindGroupLayoutRelease>;
using PipelineLayout = Handle<WGPUPipelineLayout, wgpuPipelineLayoutRelease>;
using Pipeline = Handle<WGPUComputePipeline, wgpuComputePipelineRelease>;
using CommandEncoder = Handle<WGPUCommandEncoder, wgpuCommandEncoderRelease>;
using CommandBuffer = Handle<WGPUCommandBuffer, wgpuCommandBufferRelease>;
using ComputePass = Handle<WGPUComputePassEncoder, wgpuComputePassEncoderRelease>;
using QuerySet = Handle<WGPUQuerySet, wgpuQuerySetRelease>;

inline WGPUStringView text(std::string_view s) { return {s.data(), s.size()}; }
inline std::string text(WGPUStringView s) {
  if (!s.data) return {};
  return s.length == WGPU_STRLEN ? std::string(s.data) : std::string(s.data, s.length);
}

}  // namespace ms::gpu
