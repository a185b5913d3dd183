// device.hpp: a WebGPU device: buffers, pipelines, recordings of work, submission, timing.
//
// The only face of webgpu.h that other layers see, and none of its types. One thread at a time may
// use a Device; the pipeline cache inside it is thread-safe. A lost device or an error that Dawn
// reported asynchronously is thrown (ms::Error) by the next call.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gpu/shader.hpp"
#include "gpu/work.hpp"

struct WGPUBufferImpl;
struct WGPUBindGroupImpl;
struct WGPUComputePipelineImpl;

namespace ms::gpu {

struct Buffer {
  WGPUBufferImpl* raw = nullptr;
  uint64_t bytes = 0;  // a multiple of 256, zero at first
  std::string label;
  std::map<uint64_t, std::string> parts = {};  // what lies in it from a byte on, if it has several

  Buffer(WGPUBufferImpl* raw, uint64_t bytes, std::string label)
      : raw(raw), bytes(bytes), label(std::move(label)) {}
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer();
  const std::string& label_at(uint64_t offset) const;  // the part's, or its own
};
using BufferPtr = std::unique_ptr<Buffer>;

// The whole buffer, or its beginning, as a tensor.
inline View view(const BufferPtr& buffer, Shape shape, Type type = Type::f32) {
  return {.buffer = buffer.get(), .shape = shape, .type = type};
}

struct DeviceOptions {
  std::string device = {};  // an index of adapters(), or part of a name; empty takes the first
  Tier tier = Tier::best;
  bool fast = false;                         // no bounds checks in shaders
  std::filesystem::path cache = {};          // folder of compiled pipelines; empty: none are kept
  std::filesystem::path tuning = {};         // folder of tuned constants; empty: there are none
  std::span<const WgslSource> sources = {};  // of every kernel
  bool overrides_as_constants = false;       // in the modules' texts: to compare with overrides
  uint64_t max_binding_bytes = 0;  // a lower limit, as a smaller device has it; 0: the device's own
  // Says of itself that it is a GPU that multiplies matrices: wrappers then choose as for one, and
  // the portable form multiplies them.
  bool emulates_matrices = false;
};

// The calls that a decode step must not make, counted.
struct Counts {
  uint64_t buffers = 0, bind_groups = 0, buffer_writes = 0, waits = 0, submits = 0, pipelines = 0;
};

// Work that is ready to be encoded: pipelines compiled, scratch placed, bind groups made.
class Recording {
 public:
  Recording() = default;
  Recording(Recording&&) = default;
  Recording& operator=(Recording&&) = default;
  const std::vector<Dispatch>& dispatches() const { return dispatches_; }  // scratch resolved

 private:
  friend class Device;
  struct Release {
    void operator()(WGPUBindGroupImpl* raw) const;
  };
  struct Step {
    WGPUComputePipelineImpl* pipeline;  // owned by the cache
    std::unique_ptr<WGPUBindGroupImpl, Release> group;
    Grid grid;
  };
  std::vector<Dispatch> dispatches_;
  std::vector<Step> steps_;
  std::vector<BufferPtr> memory_;  // params and scratch
};

// A submission whose copied-back bytes can be waited for. Waits may come in any order, once each.
struct Ticket {
  uint64_t id = 0;
};

// When a submission began and ended on the device, microseconds since the first of its trace began.
struct Span {
  double begin = 0, end = 0;
};

class Device {
 public:
  // The adapters that this machine offers, best first. Empty when there is none.
  static std::vector<Caps> adapters();
  // Throws Error: no adapter (with what to install), no such device, device refused.
  static std::unique_ptr<Device> open(const DeviceOptions& options);
  ~Device();

  const Caps& caps() const;
  const Counts& counts() const;
  // What wrappers choose by from now on.
  void tune(std::shared_ptr<const Tuning> tuning);

  // Zeroed memory; bytes are rounded up to a multiple of 256. Throws Error beyond the device's
  // limit or memory.
  BufferPtr buffer(uint64_t bytes, std::string label);
  // Copies to byte `offset` of a buffer (multiples of 4). Queued: ordered with submissions.
  void write(Buffer& buffer, uint64_t offset, std::span<const std::byte> bytes);
  // Copies back; waits for everything submitted before.
  std::vector<std::byte> read(Buffer& buffer, uint64_t offset, uint64_t bytes);

  // Begins to compile what a recording of this work will need, and does not wait. Throws Error for
  // a module that does not compile; what else fails, record() tells.
  void prepare(const Work& work);
  // Compiles (in parallel), places scratch, makes bind groups. progress(done, all) per pipeline.
  Recording record(Work work, const std::function<void(size_t, size_t)>& progress = {});
  // Encodes and submits; does not wait.
  void submit(const Recording& recording);
  // The same, `times` in a row, and copies `back` (a view's bytes) to the host after each: one
  // submission of several keeps a GPU from idling in between, some 20 us on an H200.
  Ticket submit(const Recording& recording, const View& back, uint32_t times = 1);
  // What was copied, one behind the other.
  std::vector<std::byte> wait(Ticket ticket);
  // Waits for everything submitted.
  void finish();

  // Keeps a GPU busy with the recording until a run gets no faster, 0.8 s to 4 s: an idle one has
  // slowed its clock down. Once before what is timed.
  void warm_up(const Recording& recording);
  // Runs the recording `repeats` times, each dispatch in a pass of its own; median microseconds
  // each. Throws Error on a device without timestamps.
  std::vector<double> time(const Recording& recording, uint32_t repeats);
  // From here on notes when each recording that is submitted, of the next 2,048, begins and ends.
  // Throws Error on a device without timestamps.
  void start_trace();
  // What was noted, in the order of submission; waits for it, and ends the trace.
  std::vector<Span> take_trace();
  // Runs the dispatch's CPU twin on copies of its buffers and writes the results back.
  void run_twin(const Dispatch& dispatch);

  // Whether this pipeline can be built; the compiler's words otherwise. For tests and `kernels
  // --check`.
  std::optional<std::string> compile_error(const Dispatch& dispatch);
  // The cached pipeline of a dispatch, compiled now if it must be.
  WGPUComputePipelineImpl* pipeline(const Dispatch& dispatch);

  void destroy();  // loses the device on purpose, as a driver crash would

 private:
  friend class Uploads;
  struct Impl;
  explicit Device(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Bytes on their way to buffers by pieces of memory that host and device share: one is filled while
// those before it are copied. The device must outlive it, and one thread at a time may use both.
class Uploads {
 public:
  Uploads(Device& device, uint64_t piece_bytes);
  ~Uploads();  // what was sent arrives

  uint64_t piece_bytes() const;
  // Memory for up to piece_bytes bytes, until the next send; waits for a piece that is free. To be
  // written alone, by any threads: it may be slow to read, and what it held is gone.
  std::span<std::byte> room(uint64_t bytes);

  struct Part {
    uint64_t from;  // in the room
    Buffer* to;
    uint64_t offset, bytes;  // multiples of 4
  };
  // Copies from the last room. Queued: ordered with submissions.
  void send(std::span<const Part> parts);

 private:
  struct Piece;
  Device& device_;
  std::vector<std::unique_ptr<Piece>> pieces_;
  size_t next_ = 0;
};

}  // namespace ms::gpu
