// device.cpp: everything that talks to webgpu.h, but for the compiling of pipelines.
#include "gpu/device.hpp"

#include <dawn/native/DawnNative.h>
#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "gpu/blob_cache.hpp"
#include "gpu/handle.hpp"
#include "gpu/pipelines.hpp"

namespace ms::gpu {

namespace {

constexpr uint64_t view_alignment =
    256;  // minStorageBufferOffsetAlignment, minUniformBufferOffsetAlignment
constexpr uint64_t binding_alignment = 16;  // so that arrays of vec4 reach the last element
constexpr uint32_t most_passes = 2048;      // whose two timestamps fit one query set of 4096
constexpr uint32_t stand_ins = 16;          // a place each, since writable ranges must not overlap

uint64_t round_up(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

// Where what is bound for a view ends, in bytes of its buffer.
uint64_t bound_end(const View& view) {
  return view.offset + std::max(binding_alignment, round_up(view.bytes(), binding_alignment));
}

void require_within(const Buffer& buffer, uint64_t offset, uint64_t bytes, const char* what) {
  require(offset % 4 == 0 && offset <= buffer.bytes && bytes <= buffer.bytes - offset,
          "{}: a {} of {} bytes at {} exceeds its {}, or is not of whole words", buffer.label, what,
          bytes, offset, buffer.bytes);
}

constexpr const char* no_adapter =
    "no WebGPU adapter: the Vulkan loader found no driver. Install one (Debian, without a GPU: "
    "mesa-vulkan-drivers "
    "25 or newer, in bookworm-backports on Debian 12; with NVIDIA: its driver package with Vulkan) "
    "and libvulkan1";

// The instance outlives every adapter and device of the process.
dawn::native::Instance& instance() {
  static dawn::native::Instance* const made = [] {
    const WGPUInstanceFeatureName features[] = {WGPUInstanceFeatureName_TimedWaitAny};
    WGPUInstanceLimits limits = WGPU_INSTANCE_LIMITS_INIT;
    limits.timedWaitAnyMaxCount = 64;
    WGPUInstanceDescriptor descriptor = WGPU_INSTANCE_DESCRIPTOR_INIT;
    descriptor.requiredFeatureCount = 1;
    descriptor.requiredFeatures = features;
    descriptor.requiredLimits = &limits;
    return new dawn::native::Instance(&descriptor);
  }();
  return *made;
}

struct Toggles {
  // Our kernels read no workgroup memory that they have not written: zeros in it would be a loss.
  std::vector<const char*> enabled = {"vulkan_enable_f16_on_nvidia", "allow_unsafe_apis",
                                      "disable_workgroup_init"};
  std::vector<const char*> disabled = {"timestamp_quantization"};
  WGPUDawnTogglesDescriptor descriptor = WGPU_DAWN_TOGGLES_DESCRIPTOR_INIT;

  explicit Toggles(bool fast) {
    if (fast) enabled.push_back("disable_robustness");
    descriptor.enabledToggleCount = enabled.size();
    descriptor.enabledToggles = enabled.data();
    descriptor.disabledToggleCount = disabled.size();
    descriptor.disabledToggles = disabled.data();
  }
};

// Every compute-capable Vulkan, Metal or D3D12 adapter: hardware first, in the drivers' order.
std::vector<dawn::native::Adapter> enumerate(const Toggles& toggles) {
  WGPURequestAdapterOptions options = WGPU_REQUEST_ADAPTER_OPTIONS_INIT;
  options.nextInChain = const_cast<WGPUChainedStruct*>(&toggles.descriptor.chain);
  options.featureLevel = WGPUFeatureLevel_Core;
  std::vector<dawn::native::Adapter> found;
  for (auto backend : {WGPUBackendType_Vulkan, WGPUBackendType_Metal, WGPUBackendType_D3D12}) {
    options.backendType = backend;
    for (auto& adapter : instance().EnumerateAdapters(&options)) found.push_back(adapter);
  }
  const auto rank = [](const dawn::native::Adapter& adapter) {
    WGPUAdapterInfo info = WGPU_ADAPTER_INFO_INIT;
    wgpuAdapterGetInfo(adapter.Get(), &info);
    const int type = int(info.adapterType);  // discrete 1, integrated 2, CPU 3, unknown 4
    wgpuAdapterInfoFreeMembers(info);
    return type;
  };
  std::ranges::stable_sort(found, {}, rank);
  return found;
}

const char* name_of(WGPUAdapterType type) {
  return type == WGPUAdapterType_DiscreteGPU     ? "discrete"
         : type == WGPUAdapterType_IntegratedGPU ? "integrated"
         : type == WGPUAdapterType_CPU           ? "CPU"
                                                 : "unknown";
}

std::string describe(const WGPUSubgroupMatrixConfig& config) {
  constexpr std::string_view names[] = {"unknown", "f32", "f16", "u32", "i32", "u8", "i8"};
  const auto name = [&](WGPUSubgroupMatrixComponentType type) {
    return names[size_t(type) < std::size(names) ? size_t(type) : 0];
  };
  return fmt::format("{0} * {0} + {1}, {2}x{3}x{4}", name(config.componentType),
                     name(config.resultComponentType), config.M, config.N, config.K);
}

// Whether they are the matrices that kernels/shared/matrix.matrix.wgsl names.
bool multiplies_f16(const WGPUSubgroupMatrixConfig& c) {
  return c.componentType == WGPUSubgroupMatrixComponentType_F16 &&
         c.resultComponentType == WGPUSubgroupMatrixComponentType_F32 && c.M == 16 && c.N == 16 &&
         c.K == 16;
}

Caps caps_of(WGPUAdapter adapter, size_t number) {
  Caps caps;
  caps.number = uint32_t(number);
  const auto has = [&](WGPUFeatureName feature) {
    return wgpuAdapterHasFeature(adapter, feature) != 0;
  };
  caps.variant = {.subgroups = has(WGPUFeatureName_Subgroups),
                  .f16 = has(WGPUFeatureName_ShaderF16)};
  caps.timestamps = has(WGPUFeatureName_TimestampQuery);

  WGPUAdapterInfo info = WGPU_ADAPTER_INFO_INIT;
  WGPUAdapterPropertiesMemoryHeaps heaps = WGPU_ADAPTER_PROPERTIES_MEMORY_HEAPS_INIT;
  WGPUAdapterPropertiesSubgroupMatrixConfigs matrices =
      WGPU_ADAPTER_PROPERTIES_SUBGROUP_MATRIX_CONFIGS_INIT;
  const auto ask_for = [&](WGPUChainedStruct& part) {
    part.next = info.nextInChain;
    info.nextInChain = &part;
  };
  if (has(WGPUFeatureName_AdapterPropertiesMemoryHeaps)) ask_for(heaps.chain);
  if (has(WGPUFeatureName_ChromiumExperimentalSubgroupMatrix)) ask_for(matrices.chain);
  wgpuAdapterGetInfo(adapter, &info);
  for (const WGPUMemoryHeapInfo& heap : std::span(heaps.heapInfo, heaps.heapCount))
    if (heap.properties & WGPUHeapProperty_DeviceLocal)
      caps.memory_bytes = std::max(caps.memory_bytes, heap.size);
  for (const auto& config : std::span(matrices.configs, matrices.configCount)) {
    caps.matrices.push_back(describe(config));
    if (multiplies_f16(config)) caps.variant.matrix = caps.variant.subgroups && caps.variant.f16;
  }
  wgpuAdapterPropertiesMemoryHeapsFreeMembers(heaps);
  wgpuAdapterPropertiesSubgroupMatrixConfigsFreeMembers(matrices);
  caps.name = text(info.device);
  caps.driver = text(info.description);
  caps.backend = info.backendType == WGPUBackendType_Vulkan  ? "Vulkan"
                 : info.backendType == WGPUBackendType_Metal ? "Metal"
                                                             : "D3D12";
  caps.type = name_of(info.adapterType);
  caps.cpu = info.adapterType == WGPUAdapterType_CPU;
  if (caps.cpu) caps.cpu_threads = std::max(1u, std::thread::hardware_concurrency());
  if (caps.variant.subgroups) {
    caps.min_subgroup_size = info.subgroupMinSize;
    caps.max_subgroup_size = info.subgroupMaxSize;
    if (info.subgroupMinSize == info.subgroupMaxSize)
      caps.variant.subgroup_size = info.subgroupMaxSize;
  }
  wgpuAdapterInfoFreeMembers(info);

  WGPULimits limits = WGPU_LIMITS_INIT;
  wgpuAdapterGetLimits(adapter, &limits);
  caps.max_storage_buffers = std::min(limits.maxStorageBuffersPerShaderStage, stand_ins);
  caps.max_workgroup_bytes = limits.maxComputeWorkgroupStorageSize;
  caps.max_invocations =
      std::min(limits.maxComputeInvocationsPerWorkgroup, limits.maxComputeWorkgroupSizeX);
  caps.max_workgroups = limits.maxComputeWorkgroupsPerDimension;
  caps.max_binding_bytes = limits.maxStorageBufferBindingSize;
  caps.max_buffer_bytes = limits.maxBufferSize;
  return caps;
}

// What a preset keeps of the device's features and limits.
Caps restrict_to(Caps caps, Tier tier) {
  const Caps device = caps;
  Variant& v = caps.variant;
  switch (tier) {
    case Tier::best:
      break;
    case Tier::portable:
      v = {};
      caps.max_storage_buffers = 8, caps.max_workgroup_bytes = 16384, caps.max_invocations = 256;
      caps.max_binding_bytes = std::min<uint64_t>(caps.max_binding_bytes, 128ull << 20);
      break;
    case Tier::subgroups:
      v = {.subgroups = true, .subgroup_size = v.subgroup_size};
      break;
    case Tier::f16:
      v = {.subgroups = true, .f16 = true, .subgroup_size = v.subgroup_size};
      break;
    case Tier::matrix:
      v = {.subgroups = true, .f16 = true, .matrix = true, .subgroup_size = v.subgroup_size};
      break;
  }
  const auto need = [&](bool wanted, bool there, const char* name) {
    if (wanted && !there)
      fail("{} ({}) has no {}; try --tier portable", device.name, device.driver, name);
  };
  need(v.subgroups, device.variant.subgroups, "subgroups");
  need(v.f16, device.variant.f16, "shader-f16");
  need(v.matrix, device.variant.matrix, "subgroup matrices");
  if (!v.matrix) caps.matrices.clear();
  if (!v.subgroups) caps.min_subgroup_size = caps.max_subgroup_size = 1;
  return caps;
}

size_t choose(const std::vector<dawn::native::Adapter>& adapters, const std::string& wanted) {
  if (adapters.empty()) fail("{}", no_adapter);
  if (wanted.empty()) return 0;
  size_t index = 0;
  const auto [end, error] = std::from_chars(wanted.data(), wanted.data() + wanted.size(), index);
  std::string names;
  for (size_t i = 0; i < adapters.size(); ++i) {
    const Caps caps = caps_of(adapters[i].Get(), i);
    if (caps.name.find(wanted) != std::string::npos) return i;
    names += fmt::format("\n  {}: {}", i, caps.name);
  }
  if (error == std::errc{} && end == wanted.data() + wanted.size() && index < adapters.size())
    return index;
  fail("no device \"{}\"; there are:{}", wanted, names);
}

// The buffers that hold a work's scratch: what no later dispatch uses leaves its place to others.
struct ScratchPlan {
  std::vector<uint64_t> buffers;  // bytes
  std::vector<size_t> place;      // of each scratch, in buffers

  explicit ScratchPlan(const Work& work) : place(work.scratch.size(), SIZE_MAX) {
    std::vector<size_t> last(work.scratch.size());  // the last dispatch that uses it
    std::vector<size_t> busy;                       // until which dispatch each buffer is
    const auto each = [&](auto use) {
      for (size_t i = 0; i < work.dispatches.size(); ++i)
        for (const View& view : work.dispatches[i].bindings)
          if (view.scratch) use(i, view.scratch - 1);
    };
    each([&](size_t i, size_t scratch) { last.at(scratch) = i; });
    each([&](size_t i, size_t scratch) {
      if (place[scratch] != SIZE_MAX) return;
      const auto free = std::ranges::find_if(busy, [&](size_t until) { return until < i; });
      const size_t at = size_t(free - busy.begin());
      if (free == busy.end()) busy.push_back(0), buffers.push_back(0);
      place[scratch] = at;
      busy[at] = last[scratch];
      buffers[at] = std::max(buffers[at], work.scratch[scratch]);
    });
  }
};

}  // namespace

const std::string& Buffer::label_at(uint64_t offset) const {
  const auto behind = parts.upper_bound(offset);
  return behind == parts.begin() ? label : std::prev(behind)->second;
}

Buffer::~Buffer() {
  if (!raw) return;
  wgpuBufferDestroy(raw);  // memory goes back now, not when Dawn next collects
  wgpuBufferRelease(raw);
}

void Recording::Release::operator()(WGPUBindGroupImpl* raw) const { wgpuBindGroupRelease(raw); }

struct Device::Impl {
  Caps caps;
  Counts counts;
  BlobCache blobs;
  // What Dawn reports from its callbacks, until the next call throws it.
  std::mutex mutex;
  std::string error;
  std::string lost;

  Adapter adapter;
  RawDevice device;
  Queue queue;
  std::unique_ptr<PipelineCache> pipelines;
  BufferPtr zeros;  // the stand-ins: read-only ones share, writable ones have a place each
  BufferPtr scraps;

  // Memory that the host sees while it is mapped: what is read back, or a piece of Uploads.
  struct Back {
    RawBuffer buffer;
    uint64_t bytes = 0;
    WGPUFuture future{};
    bool mapped = false;
    std::string error;
  };
  std::map<uint64_t, std::unique_ptr<Back>> pending;
  std::vector<std::unique_ptr<Back>> spare;
  QuerySet trace;       // of start_trace, until take_trace
  uint32_t traced = 0;  // passes that it has
  uint64_t next_ticket = 1;

  explicit Impl(std::filesystem::path cache) : blobs(std::move(cache)) {}

  void check() {
    const std::lock_guard lock(mutex);
    if (!lost.empty()) fail("the device {} was lost: {}", caps.name, lost);
    if (!error.empty()) fail("WebGPU error on {}: {}", caps.name, std::exchange(error, {}));
  }

  void wait_for(WGPUFuture future) {
    ++counts.waits;
    WGPUFutureWaitInfo wait = WGPU_FUTURE_WAIT_INFO_INIT;
    wait.future = future;
    wgpuInstanceWaitAny(instance().Get(), 1, &wait, UINT64_MAX);
  }

  RawBuffer make(uint64_t bytes, WGPUBufferUsage usage, std::string_view label,
                 bool mapped = false) {
    WGPUBufferDescriptor descriptor = WGPU_BUFFER_DESCRIPTOR_INIT;
    descriptor.label = text(label);
    descriptor.size = bytes;
    descriptor.usage = usage;
    descriptor.mappedAtCreation = mapped;
    ++counts.buffers;
    return RawBuffer(wgpuDeviceCreateBuffer(device.get(), &descriptor));
  }

  WGPUBindGroupEntry entry(uint32_t binding, const View& view, Access access) {
    WGPUBindGroupEntry entry = WGPU_BIND_GROUP_ENTRY_INIT;
    entry.binding = binding;
    if (!view) {
      entry.buffer = access == in ? zeros->raw : scraps->raw;
      entry.offset = access == in ? 0 : uint64_t(binding - 1) * view_alignment;
      entry.size = view_alignment;
      return entry;
    }
    entry.buffer = view.buffer->raw;
    entry.offset = view.offset;
    entry.size = bound_end(view) - view.offset;
    return entry;
  }

  void validate(const Dispatch& d) {
    require(d.bindings.size() == d.kernel->bindings.size(),
            "{}: {} bindings given, the kernel has {}", d.kernel->name, d.bindings.size(),
            d.kernel->bindings.size());
    require(d.params.size() == d.kernel->params_bytes, "{}: {} bytes of params, the kernel has {}",
            d.kernel->name, d.params.size(), d.kernel->params_bytes);
    const std::string_view refusal = d.kernel->refusal(d.constants);
    require(refusal.empty(), "{}: {}: {}", d.kernel->name, to_string(d.constants), refusal);
    uint32_t storage = 0;
    for (size_t i = 0; i < d.bindings.size(); ++i) {
      const View& view = d.bindings[i];
      ++storage;
      if (!view) continue;
      const uint64_t end = bound_end(view);
      require(view.offset % view_alignment == 0,
              "{}: binding {} starts at byte {} of {}, not a multiple of {}", d.kernel->name, i + 1,
              view.offset, view.buffer->label, view_alignment);
      require(end <= view.buffer->bytes, "{}: binding {}, {}, ends at byte {} of {}, which has {}",
              d.kernel->name, i + 1, view, end, view.buffer->label, view.buffer->bytes);
      require(end - view.offset <= caps.max_binding_bytes,
              "{}: binding {}, {}, has {} bytes; a binding of this device holds {}", d.kernel->name,
              i + 1, view, view.bytes(), caps.max_binding_bytes);
      for (size_t j = 0; j < i; ++j) {
        const View& other = d.bindings[j];
        if (other.buffer != view.buffer) continue;
        // The usage scope is per buffer, not per range; of ranges that are written, none may
        // overlap another.
        require(d.kernel->bindings[i] == d.kernel->bindings[j],
                "{}: bindings {} and {} read and write one buffer, {}", d.kernel->name, j + 1,
                i + 1, view.buffer->label);
        require(
            d.kernel->bindings[i] == in || end <= other.offset || bound_end(other) <= view.offset,
            "{}: bindings {} and {} write the same bytes of {}", d.kernel->name, j + 1, i + 1,
            view.buffer->label);
      }
    }
    require(storage <= caps.max_storage_buffers, "{}: {} storage buffers; this device allows {}",
            d.kernel->name, storage, caps.max_storage_buffers);
    for (uint32_t n : d.grid)
      require(n <= caps.max_workgroups, "{}: {} workgroups in a dimension; this device allows {}",
              d.kernel->name, n, caps.max_workgroups);
  }

  void encode(WGPUComputePassEncoder pass, const Recording::Step& step) {
    wgpuComputePassEncoderSetPipeline(pass, step.pipeline);
    wgpuComputePassEncoderSetBindGroup(pass, 0, step.group.get(), 0, nullptr);
    wgpuComputePassEncoderDispatchWorkgroups(pass, step.grid[0], step.grid[1], step.grid[2]);
  }

  void submit(WGPUCommandEncoder encoder) {
    const CommandBuffer commands(wgpuCommandEncoderFinish(encoder, nullptr));
    const WGPUCommandBuffer raw = commands.get();
    wgpuQueueSubmit(queue.get(), 1, &raw);
    ++counts.submits;
  }

  QuerySet timestamps(uint32_t passes) {
    if (!caps.timestamps) fail("{} has no timestamp queries", caps.name);
    WGPUQuerySetDescriptor query = WGPU_QUERY_SET_DESCRIPTOR_INIT;
    query.type = WGPUQueryType_Timestamp;
    query.count = 2 * passes;
    return QuerySet(wgpuDeviceCreateQuerySet(device.get(), &query));
  }

  // Submits what the encoder has, and returns the begins and ends that it or those before it wrote,
  // in nanoseconds.
  std::vector<uint64_t> resolve(WGPUCommandEncoder encoder, const QuerySet& set, uint32_t passes) {
    const RawBuffer resolved =
        make(16 * passes, WGPUBufferUsage_QueryResolve | WGPUBufferUsage_CopySrc, "timestamps");
    wgpuCommandEncoderResolveQuerySet(encoder, set.get(), 0, 2 * passes, resolved.get(), 0);
    auto back = copy_back(encoder, resolved.get(), 0, 16 * passes);
    submit(encoder);
    map(*back);
    const auto bytes = take(std::move(back));
    std::vector<uint64_t> ns(2 * passes);
    std::memcpy(ns.data(), bytes.data(), bytes.size());
    return ns;
  }

  // A pass whose begin and end are those of number i in the set, unless that is null.
  static ComputePass begin_pass(WGPUCommandEncoder encoder, WGPUQuerySet set, uint32_t i) {
    WGPUPassTimestampWrites writes = WGPU_PASS_TIMESTAMP_WRITES_INIT;
    writes.querySet = set;
    writes.beginningOfPassWriteIndex = 2 * i;
    writes.endOfPassWriteIndex = 2 * i + 1;
    WGPUComputePassDescriptor descriptor = WGPU_COMPUTE_PASS_DESCRIPTOR_INIT;
    if (set) descriptor.timestampWrites = &writes;
    return ComputePass(wgpuCommandEncoderBeginComputePass(encoder, &descriptor));
  }

  void encode_all(WGPUCommandEncoder encoder, const Recording& recording) {
    const bool noted = trace.get() && traced < most_passes;
    const ComputePass pass = begin_pass(encoder, noted ? trace.get() : nullptr, traced);
    traced += noted;
    for (const auto& step : recording.steps_)
      if (step.grid[0] && step.grid[1] && step.grid[2]) encode(pass.get(), step);
    wgpuComputePassEncoderEnd(pass.get());
  }

  // Host-visible memory, to be mapped once the commands that fill it are done.
  std::unique_ptr<Back> read_back(uint64_t bytes) {
    const uint64_t room = round_up(std::max<uint64_t>(bytes, 1), 256);  // one or a few steps' alike
    std::unique_ptr<Back> back;
    const auto fits = [&](const auto& old) { return wgpuBufferGetSize(old->buffer.get()) == room; };
    if (const auto old = std::ranges::find_if(spare, fits); old != spare.end()) {
      back = std::move(*old);
      spare.erase(old);
    }
    if (!back) {
      back = std::make_unique<Back>();
      back->buffer = make(room, WGPUBufferUsage_MapRead | WGPUBufferUsage_CopyDst, "read back");
    }
    back->bytes = bytes;
    return back;
  }

  // A copy of a range there.
  std::unique_ptr<Back> copy_back(WGPUCommandEncoder encoder, WGPUBuffer from, uint64_t offset,
                                  uint64_t bytes) {
    auto back = read_back(bytes);
    if (bytes)
      wgpuCommandEncoderCopyBufferToBuffer(encoder, from, offset, back->buffer.get(), 0,
                                           round_up(bytes, 4));
    return back;
  }

  void map(Back& back, WGPUMapMode mode = WGPUMapMode_Read) {
    back.mapped = false;
    WGPUBufferMapCallbackInfo info = WGPU_BUFFER_MAP_CALLBACK_INFO_INIT;
    info.mode = WGPUCallbackMode_WaitAnyOnly;
    info.userdata1 = &back;
    info.callback = [](WGPUMapAsyncStatus status, WGPUStringView message, void* user, void*) {
      auto& back = *static_cast<Back*>(user);
      back.mapped = status == WGPUMapAsyncStatus_Success;
      if (!back.mapped) back.error = text(message);
    };
    back.future =
        wgpuBufferMapAsync(back.buffer.get(), mode, 0, wgpuBufferGetSize(back.buffer.get()), info);
  }

  std::vector<std::byte> take(std::unique_ptr<Back> back) {
    wait_for(back->future);
    check();
    if (!back->mapped) fail("cannot read memory of {} back: {}", caps.name, back->error);
    const auto* mapped = static_cast<const std::byte*>(wgpuBufferGetConstMappedRange(
        back->buffer.get(), 0, wgpuBufferGetSize(back->buffer.get())));
    std::vector<std::byte> result(mapped, mapped + back->bytes);
    wgpuBufferUnmap(back->buffer.get());
    if (spare.size() < 16) spare.push_back(std::move(back));
    return result;
  }
};

std::vector<Caps> Device::adapters() {
  std::vector<Caps> result;
  for (const auto& adapter : enumerate(Toggles(false)))
    result.push_back(caps_of(adapter.Get(), result.size()));
  return result;
}

std::unique_ptr<Device> Device::open(const DeviceOptions& options) {
  const Toggles toggles(options.fast);
  auto adapters = enumerate(toggles);
  auto impl = std::make_unique<Impl>(options.cache);
  const size_t number = choose(adapters, options.device);
  const WGPUAdapter chosen = adapters[number].Get();
  wgpuAdapterAddRef(chosen);
  impl->adapter.reset(chosen);
  impl->caps = restrict_to(caps_of(chosen, number), options.tier);
  impl->caps.robust = !options.fast;
  if (!options.tuning.empty())
    impl->caps.tuning =
        std::make_shared<const Tuning>(load_tuning(tuning_file(options.tuning, impl->caps)));
  if (options.max_binding_bytes)
    impl->caps.max_binding_bytes =
        std::min(impl->caps.max_binding_bytes, options.max_binding_bytes);

#ifdef __GLIBC__
  // lavapipe allocates the frames of every workgroup anew; beyond glibc's threshold of 128 KiB each
  // would be a mmap and a munmap, which made kernels up to 25 times slower.
  if (impl->caps.cpu) mallopt(M_MMAP_THRESHOLD, 1 << 30), mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif

  const Variant& variant = impl->caps.variant;
  std::vector<WGPUFeatureName> features;
  if (variant.subgroups) features.push_back(WGPUFeatureName_Subgroups);
  if (variant.f16) features.push_back(WGPUFeatureName_ShaderF16);
  if (variant.matrix) features.push_back(WGPUFeatureName_ChromiumExperimentalSubgroupMatrix);
  if (impl->caps.timestamps) features.push_back(WGPUFeatureName_TimestampQuery);

  WGPULimits limits = WGPU_LIMITS_INIT;  // those not named keep WebGPU's defaults
  limits.maxStorageBuffersPerShaderStage = impl->caps.max_storage_buffers;
  limits.maxComputeWorkgroupStorageSize = impl->caps.max_workgroup_bytes;
  limits.maxComputeInvocationsPerWorkgroup = limits.maxComputeWorkgroupSizeX =
      impl->caps.max_invocations;
  limits.maxStorageBufferBindingSize = impl->caps.max_binding_bytes;
  limits.maxBufferSize = impl->caps.max_buffer_bytes;

  WGPUDawnCacheDeviceDescriptor cache = WGPU_DAWN_CACHE_DEVICE_DESCRIPTOR_INIT;
  cache.isolationKey = text(std::string_view("mainspring"));
  cache.dawnLoadCacheDataCallbackInfo.userdata1 = &impl->blobs;
  cache.dawnLoadCacheDataCallbackInfo.callback = [](size_t key_size, const uint8_t* key,
                                                    size_t size, uint8_t* value, void* user,
                                                    void*) -> size_t {
    const auto blob = static_cast<BlobCache*>(user)->load({key, key_size});
    if (value && blob.size() <= size) std::ranges::copy(blob, value);
    return blob.size();
  };
  cache.dawnStoreCacheDataCallbackInfo.userdata1 = &impl->blobs;
  cache.dawnStoreCacheDataCallbackInfo.callback = [](size_t key_size, const uint8_t* key,
                                                     size_t size, const uint8_t* value, void* user,
                                                     void*) {
    static_cast<BlobCache*>(user)->store({key, key_size}, {value, size});
  };
  WGPUDawnTogglesDescriptor device_toggles = toggles.descriptor;
  device_toggles.chain.next = &cache.chain;

  WGPUDeviceDescriptor descriptor = WGPU_DEVICE_DESCRIPTOR_INIT;
  descriptor.nextInChain = &device_toggles.chain;
  descriptor.label = text(std::string_view("mainspring"));
  descriptor.requiredFeatureCount = features.size();
  descriptor.requiredFeatures = features.data();
  descriptor.requiredLimits = &limits;
  descriptor.deviceLostCallbackInfo.mode = WGPUCallbackMode_AllowSpontaneous;
  descriptor.deviceLostCallbackInfo.userdata1 = impl.get();
  descriptor.deviceLostCallbackInfo.callback = [](const WGPUDevice*, WGPUDeviceLostReason reason,
                                                  WGPUStringView message, void* user, void*) {
    auto& impl = *static_cast<Impl*>(user);
    const std::lock_guard lock(impl.mutex);
    impl.lost = reason == WGPUDeviceLostReason_Destroyed ? "it was destroyed" : text(message);
  };
  descriptor.uncapturedErrorCallbackInfo.userdata1 = impl.get();
  descriptor.uncapturedErrorCallbackInfo.callback = [](const WGPUDevice*, WGPUErrorType type,
                                                       WGPUStringView message, void* user, void*) {
    auto& impl = *static_cast<Impl*>(user);
    const std::lock_guard lock(impl.mutex);
    if (!impl.error.empty()) return;  // the first one is the cause
    impl.error =
        type == WGPUErrorType_OutOfMemory ? "out of memory: " + text(message) : text(message);
  };

  struct Answer {
    WGPUDevice device = nullptr;
    std::string message;
  } answer;
  WGPURequestDeviceCallbackInfo info = WGPU_REQUEST_DEVICE_CALLBACK_INFO_INIT;
  info.mode = WGPUCallbackMode_WaitAnyOnly;
  info.userdata1 = &answer;
  info.callback = [](WGPURequestDeviceStatus, WGPUDevice device, WGPUStringView message, void* user,
                     void*) {
    *static_cast<Answer*>(user) = {device, text(message)};
  };
  impl->wait_for(wgpuAdapterRequestDevice(chosen, &descriptor, info));
  if (!answer.device) fail("cannot open {}: {}", impl->caps.name, answer.message);
  impl->device.reset(answer.device);
  impl->caps.int8_dot = std::ranges::none_of(
      dawn::native::GetTogglesUsed(answer.device),
      [](std::string_view name) { return name == "polyfill_packed_4x8_dot_product"; });
  impl->queue.reset(wgpuDeviceGetQueue(answer.device));
  impl->pipelines = std::make_unique<PipelineCache>(
      instance().Get(), answer.device, variant, options.sources, options.overrides_as_constants);
  if (options.emulates_matrices) {
    impl->caps.cpu = false;
    impl->caps.variant.matrix = true;
    impl->caps.min_subgroup_size = impl->caps.max_subgroup_size = 32;
  }

  std::unique_ptr<Device> device(new Device(std::move(impl)));
  device->impl_->zeros = device->buffer(view_alignment, "stand-in, read");
  device->impl_->scraps = device->buffer(view_alignment * stand_ins, "stand-in, written");
  return device;
}

Device::Device(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Device::~Device() {
  // Dawn's callbacks point into impl_: the device goes first, and takes them with it.
  impl_->zeros.reset();
  impl_->scraps.reset();
  impl_->pipelines.reset();
  // Destroying gives back all that the device held. The handle itself, some kilobytes, is never
  // released: a compile thread of Dawn's holds the device for an instant longer than its callback,
  // and were its reference the last, it would delete the device, and with it wait for itself.
  wgpuDeviceDestroy(impl_->device.release());
  wgpuInstanceProcessEvents(instance().Get());
}

const Caps& Device::caps() const { return impl_->caps; }

void Device::tune(std::shared_ptr<const Tuning> tuning) { impl_->caps.tuning = std::move(tuning); }
const Counts& Device::counts() const {
  impl_->counts.pipelines = impl_->pipelines->compiles();
  return impl_->counts;
}

BufferPtr Device::buffer(uint64_t bytes, std::string label) {
  impl_->check();
  const uint64_t rounded = std::max(view_alignment, round_up(bytes, view_alignment));
  if (bytes > impl_->caps.max_buffer_bytes || rounded > impl_->caps.max_buffer_bytes)
    fail("{}: {} bytes; a buffer of {} holds at most {}", label, bytes, impl_->caps.name,
         impl_->caps.max_buffer_bytes);
  const WGPUBufferUsage usage = WGPUBufferUsage_Storage | WGPUBufferUsage_Uniform |
                                WGPUBufferUsage_CopySrc | WGPUBufferUsage_CopyDst;
  RawBuffer raw = impl_->make(rounded, usage, label);
  if (!raw) fail("{}: cannot allocate {} bytes on {}", label, rounded, impl_->caps.name);
  impl_->check();
  return std::make_unique<Buffer>(raw.release(), rounded, std::move(label));
}

void Device::write(Buffer& buffer, uint64_t offset, std::span<const std::byte> bytes) {
  impl_->check();
  require(bytes.size() % 4 == 0, "{}: a write of {} bytes is not of whole words", buffer.label,
          bytes.size());
  require_within(buffer, offset, bytes.size(), "write");
  ++impl_->counts.buffer_writes;
  wgpuQueueWriteBuffer(impl_->queue.get(), buffer.raw, offset, bytes.data(), bytes.size());
}

struct Uploads::Piece : Device::Impl::Back {};

Uploads::Uploads(Device& device, uint64_t piece_bytes) : device_(device) {
  constexpr size_t pieces = 4;
  require(piece_bytes > 0 && piece_bytes % 4 == 0, "uploads by {} bytes, want whole words",
          piece_bytes);
  for (size_t i = 0; i < pieces; ++i) {
    auto piece = std::make_unique<Piece>();
    piece->bytes = piece_bytes;
    piece->mapped = true;
    piece->buffer = device.impl_->make(
        piece_bytes, WGPUBufferUsage_MapWrite | WGPUBufferUsage_CopySrc, "upload", true);
    if (!piece->buffer)
      fail("cannot allocate {} bytes to upload by on {}", piece_bytes, device.caps().name);
    pieces_.push_back(std::move(piece));
  }
  device.impl_->check();
}

// A mapping's callback points to its piece.
Uploads::~Uploads() {
  for (const auto& piece : pieces_)
    if (!piece->mapped) device_.impl_->wait_for(piece->future);
}

uint64_t Uploads::piece_bytes() const { return pieces_.front()->bytes; }

std::span<std::byte> Uploads::room(uint64_t bytes) {
  Device::Impl& device = *device_.impl_;
  Piece& piece = *pieces_[next_];
  require(bytes <= piece.bytes, "{} bytes to upload at once, a piece holds {}", bytes, piece.bytes);
  if (!piece.mapped) device.wait_for(piece.future);
  device.check();
  void* const memory = wgpuBufferGetMappedRange(piece.buffer.get(), 0, piece.bytes);
  if (!memory) fail("cannot upload to {}: {}", device.caps.name, piece.error);
  return {static_cast<std::byte*>(memory), bytes};
}

void Uploads::send(std::span<const Part> parts) {
  Device::Impl& device = *device_.impl_;
  device.check();
  Piece& piece = *pieces_[next_];
  for (const Part& part : parts) {
    require(part.from % 4 == 0 && part.offset % 4 == 0 && part.bytes % 4 == 0,
            "{}: an upload of {} bytes from {} to {} is not of whole words", part.to->label,
            part.bytes, part.from, part.offset);
    require(part.from + part.bytes <= piece.bytes, "{}: an upload of {} bytes from {} of {}",
            part.to->label, part.bytes, part.from, piece.bytes);
    require_within(*part.to, part.offset, part.bytes, "upload");
  }
  wgpuBufferUnmap(piece.buffer.get());
  const CommandEncoder encoder(wgpuDeviceCreateCommandEncoder(device.device.get(), nullptr));
  for (const Part& part : parts)
    wgpuCommandEncoderCopyBufferToBuffer(encoder.get(), piece.buffer.get(), part.from, part.to->raw,
                                         part.offset, part.bytes);
  device.submit(encoder.get());
  device.map(piece, WGPUMapMode_Write);
  next_ = (next_ + 1) % pieces_.size();
}

std::vector<std::byte> Device::read(Buffer& buffer, uint64_t offset, uint64_t bytes) {
  impl_->check();
  require_within(buffer, offset, bytes, "read");
  const CommandEncoder encoder(wgpuDeviceCreateCommandEncoder(impl_->device.get(), nullptr));
  auto back = impl_->copy_back(encoder.get(), buffer.raw, offset, bytes);
  impl_->submit(encoder.get());
  impl_->map(*back);
  return impl_->take(std::move(back));
}

void Device::prepare(const Work& work) {
  impl_->check();
  impl_->pipelines->begin(work.dispatches);
}

Recording Device::record(Work work, const std::function<void(size_t, size_t)>& progress) {
  impl_->check();
  Recording recording;
  const ScratchPlan plan(work);
  std::vector<Buffer*> scratch;
  for (uint64_t bytes : plan.buffers) {
    recording.memory_.push_back(buffer(bytes, "scratch"));
    scratch.push_back(recording.memory_.back().get());
  }
  uint64_t params_bytes = 0;
  for (Dispatch& d : work.dispatches) {
    for (View& view : d.bindings)
      if (view.scratch) view.buffer = scratch.at(plan.place.at(std::exchange(view.scratch, 0) - 1));
    impl_->validate(d);
    params_bytes += round_up(d.params.size(), view_alignment);
  }
  const auto pipelines = impl_->pipelines->get(work.dispatches, progress);
  impl_->check();

  recording.memory_.push_back(buffer(params_bytes, "params"));
  Buffer& params = *recording.memory_.back();
  std::vector<std::byte> all(params_bytes);
  uint64_t at = 0;
  for (size_t i = 0; i < work.dispatches.size(); ++i) {
    const Dispatch& d = work.dispatches[i];
    std::ranges::copy(d.params, all.begin() + std::ptrdiff_t(at));
    std::vector<WGPUBindGroupEntry> entries(1, WGPU_BIND_GROUP_ENTRY_INIT);
    entries[0].buffer = params.raw;
    entries[0].offset = at;
    entries[0].size = round_up(d.params.size(), 16);
    for (uint32_t j = 0; j < d.bindings.size(); ++j)
      entries.push_back(impl_->entry(j + 1, d.bindings[j], d.kernel->bindings[j]));
    WGPUBindGroupDescriptor descriptor = WGPU_BIND_GROUP_DESCRIPTOR_INIT;
    descriptor.label = text(d.kernel->name);
    descriptor.layout = impl_->pipelines->layout(*d.kernel);
    descriptor.entryCount = entries.size();
    descriptor.entries = entries.data();
    ++impl_->counts.bind_groups;
    recording.steps_.push_back({pipelines[i],
                                std::unique_ptr<WGPUBindGroupImpl, Recording::Release>(
                                    wgpuDeviceCreateBindGroup(impl_->device.get(), &descriptor)),
                                d.grid});
    at += round_up(d.params.size(), view_alignment);
  }
  if (!all.empty()) write(params, 0, all);
  recording.dispatches_ = std::move(work.dispatches);
  impl_->check();
  return recording;
}

void Device::submit(const Recording& recording) {
  impl_->check();
  const CommandEncoder encoder(wgpuDeviceCreateCommandEncoder(impl_->device.get(), nullptr));
  impl_->encode_all(encoder.get(), recording);
  impl_->submit(encoder.get());
}

Ticket Device::submit(const Recording& recording, const View& back, uint32_t times) {
  impl_->check();
  const uint64_t bytes = back.bytes();
  require_within(*back.buffer, back.offset, bytes, "read");
  require(bytes % 4 == 0, "{} bytes to read back are not whole words", bytes);
  const CommandEncoder encoder(wgpuDeviceCreateCommandEncoder(impl_->device.get(), nullptr));
  auto copy = impl_->read_back(times * bytes);
  for (uint32_t i = 0; i < times; ++i) {
    impl_->encode_all(encoder.get(), recording);
    wgpuCommandEncoderCopyBufferToBuffer(encoder.get(), back.buffer->raw, back.offset,
                                         copy->buffer.get(), i * bytes, bytes);
  }
  impl_->submit(encoder.get());
  impl_->map(*copy);
  const uint64_t id = impl_->next_ticket++;
  impl_->pending.emplace(id, std::move(copy));
  return {id};
}

std::vector<std::byte> Device::wait(Ticket ticket) {
  const auto found = impl_->pending.find(ticket.id);
  require(found != impl_->pending.end(), "ticket {} is not pending", ticket.id);
  auto back = std::move(found->second);
  impl_->pending.erase(found);
  return impl_->take(std::move(back));
}

void Device::finish() {
  impl_->check();
  WGPUQueueWorkDoneCallbackInfo info = WGPU_QUEUE_WORK_DONE_CALLBACK_INFO_INIT;
  info.mode = WGPUCallbackMode_WaitAnyOnly;
  info.callback = [](WGPUQueueWorkDoneStatus, WGPUStringView, void*, void*) {};
  impl_->wait_for(wgpuQueueOnSubmittedWorkDone(impl_->queue.get(), info));
  impl_->check();
}

void Device::warm_up(const Recording& recording) {
  if (impl_->caps.cpu) return;
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](auto since) {
    return std::chrono::duration<double>(Clock::now() - since).count();
  };
  const auto start = Clock::now();
  double best = INFINITY;
  int runs = 1;
  for (int stale = 0; (stale < 5 || seconds(start) < 0.8) && seconds(start) < 4;) {
    const auto round = Clock::now();
    for (int i = 0; i < runs; ++i) submit(recording);
    finish();
    const double each = seconds(round) / runs;
    if (seconds(round) < 0.02 && runs < 4096) runs *= 2;
    stale = each < 0.98 * best ? 0 : stale + 1;
    best = std::min(best, each);
  }
}

std::vector<double> Device::time(const Recording& recording, uint32_t repeats) {
  impl_->check();
  require(repeats > 0, "a median of {} repeats", repeats);
  const uint32_t n = uint32_t(recording.steps_.size());
  std::vector<std::vector<double>> samples(n);
  for (uint32_t repeat = 0; repeat < repeats; ++repeat) {
    for (uint32_t first = 0; first < n; first += most_passes) {
      const uint32_t count = std::min(most_passes, n - first);
      const QuerySet set = impl_->timestamps(count);
      const CommandEncoder encoder(wgpuDeviceCreateCommandEncoder(impl_->device.get(), nullptr));
      for (uint32_t i = 0; i < count; ++i) {
        const ComputePass pass = Impl::begin_pass(encoder.get(), set.get(), i);
        impl_->encode(pass.get(), recording.steps_[first + i]);
        wgpuComputePassEncoderEnd(pass.get());
      }
      const std::vector<uint64_t> ns = impl_->resolve(encoder.get(), set, count);
      for (uint32_t i = 0; i < count; ++i)
        samples[first + i].push_back(double(ns[2 * i + 1] - ns[2 * i]) / 1000);
    }
  }
  std::vector<double> medians;
  for (auto& s : samples) {
    std::ranges::nth_element(s, s.begin() + std::ptrdiff_t(s.size() / 2));
    medians.push_back(s[s.size() / 2]);
  }
  return medians;
}

void Device::start_trace() {
  impl_->check();
  impl_->trace = impl_->timestamps(most_passes);
  impl_->traced = 0;
}

std::vector<Span> Device::take_trace() {
  impl_->check();
  const QuerySet set = std::move(impl_->trace);
  const uint32_t n = std::exchange(impl_->traced, 0);
  if (!n) return {};
  const CommandEncoder encoder(wgpuDeviceCreateCommandEncoder(impl_->device.get(), nullptr));
  const std::vector<uint64_t> ns = impl_->resolve(encoder.get(), set, n);
  std::vector<Span> spans;
  for (uint32_t i = 0; i < n; ++i)
    spans.push_back({double(ns[2 * i] - ns[0]) / 1000, double(ns[2 * i + 1] - ns[0]) / 1000});
  return spans;
}

void Device::run_twin(const Dispatch& dispatch) {
  std::vector<std::vector<std::byte>> memory;
  std::vector<std::span<std::byte>> spans;
  for (const View& view : dispatch.bindings) {
    memory.push_back(view ? read(*view.buffer, view.offset, round_up(view.bytes(), 4))
                          : std::vector<std::byte>());
    spans.push_back(memory.back());
  }
  dispatch.kernel->twin(HostDispatch(dispatch, std::move(spans)));
  for (size_t i = 0; i < memory.size(); ++i)
    if (dispatch.bindings[i] && dispatch.kernel->bindings[i] == out)
      write(*dispatch.bindings[i].buffer, dispatch.bindings[i].offset, memory[i]);
}

std::optional<std::string> Device::compile_error(const Dispatch& dispatch) {
  try {
    pipeline(dispatch);
    return std::nullopt;
  } catch (const Error& error) {
    return error.what();
  }
}

WGPUComputePipelineImpl* Device::pipeline(const Dispatch& dispatch) {
  impl_->check();
  return impl_->pipelines->get({&dispatch, 1}).front();
}

void Device::destroy() {
  wgpuDeviceDestroy(impl_->device.get());
  wgpuInstanceProcessEvents(instance().Get());
}

}  // namespace ms::gpu
