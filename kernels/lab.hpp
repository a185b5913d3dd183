// lab.hpp: where kernels are checked against their twins, on a device, over every valid
// combination.
//
// The cases of a room (KERNEL_TEST in its *_test.cpp) run in ./check and in `mainspring kernels
// --check`; `mainspring kernels --export` keeps some of them, for other engines.
#pragma once
#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gpu/device.hpp"
#include "kernels/kernels.hpp"
#include "kernels/kv.hpp"
#include "kernels/weight.hpp"

namespace ms {

// |got - want| <= abs + rel * |want|, but of u32 the same bits. The default is what f32 sums of a
// few thousand terms keep.
struct Tolerance {
  double abs = 1e-6;
  double rel = 2e-5;
  auto operator<=>(const Tolerance&) const = default;
};
constexpr Tolerance f16_storage{1e-3, 2e-3};
constexpr Tolerance exact{0, 0};  // the same bits: NaN agrees with itself, 0 not with -0

class Lab {
 public:
  // What check() hands its work to instead, when the cases are not to be run but kept.
  using Sink = std::function<void(const gpu::Work&, Tolerance)>;

  explicit Lab(gpu::Device& device) : Lab(device, device.caps(), {}) {}
  Lab(gpu::Device& device, gpu::Caps caps, Sink sink)
      : device(device), caps_(std::move(caps)), sink_(std::move(sink)) {}

  const gpu::Caps& caps() const { return caps_; }
  bool runs() const { return !sink_; }  // if not, what is long beside check() may be left out

  // Inputs: uniform in [low, high), from a fixed seed; or value(i) for element i.
  gpu::View random(gpu::Shape shape, float low = -1, float high = 1);
  gpu::View random_f16(gpu::Shape shape, float low = -1, float high = 1);
  gpu::View values(gpu::Shape shape, const std::function<float(size_t)>& value);
  gpu::View words(gpu::Shape shape, const std::function<uint32_t(size_t)>& value);  // u32
  // Slots at these positions, all running but the stopped-th.
  gpu::View slots(const std::vector<uint32_t>& positions, size_t stopped = SIZE_MAX);
  gpu::View upload(gpu::Shape shape, gpu::Type type, std::span<const std::byte> bytes);
  // A packed weight of values uniform in [-1, 1), quantised as files are, or of random blocks.
  Weight weight(WeightType type, uint32_t rows, uint32_t cols, uint32_t row_tile = 1);
  // Copies of packed weights in the same buffers, one behind the other; those of no rows stay
  // absent.
  std::vector<Weight> in_one_buffer(std::vector<Weight> weights);
  // Blocks of a quantised type as they lie in a file, words of random bits; scales are finite, and
  // those of the first blocks zeros of both signs, subnormals and the largest.
  gpu::View blocks(TensorType type, uint64_t count);
  // A contiguous cache, f32 and f16 uniform in [-range, range), of q8_0 with scales of range / 127
  // at most.
  KvCache cache(KvType type, uint32_t rows, uint32_t kv_heads, uint32_t head_dim, float range = 2);
  // What splits of a step's keys have left, of which some had none.
  AttentionParts parts(uint32_t rows, uint32_t heads, uint32_t head_dim, uint32_t splits, bool f16);
  // Memory to be written, filled with NaN or 0xdeadbeef first.
  gpu::View output(gpu::Shape shape, gpu::Type type = gpu::Type::f32);

  // Words that are 0 before a kernel runs, and of no meaning afterwards: compared with nothing.
  gpu::View zeros(gpu::Shape shape);

  // Runs the work on the device and its twins on the host, from the same memory, and compares every
  // written binding. Throws Error that lists the first wrong elements. Memory is left as it was
  // before.
  void check(const gpu::Work& work, Tolerance tolerance = {});

  // The caps, with bindings of at most so many bytes.
  gpu::Caps with_bindings_of(uint64_t bytes) const;
  // check() of a weight's work in `count` parts, whose bindings these caps allow; and that they
  // write, bit for bit, what the whole does.
  void check_parts(const gpu::Work& whole, const gpu::Work& parts, const gpu::Caps& caps,
                   size_t count, Tolerance tolerance = {});

  // check() for every valid combination of the kernel's overrides. make(over) may refuse one for
  // its arguments by std::invalid_argument; each must run for some arguments of the room's cases.
  template <class Overrides>
  void every(const gpu::Kernel& kernel, const std::function<gpu::Work(Overrides)>& make,
             Tolerance tolerance = {}) {
    refuses_other_values(kernel, [&](const gpu::Constants& constants) {
      make(gpu::overrides<Overrides>(constants));
    });
    for (const gpu::Constants& constants : gpu::every(kernel)) {
      gpu::Work work;
      try {
        work = make(gpu::overrides<Overrides>(constants));
      } catch (const std::invalid_argument&) {
        continue;
      }
      check(work, tolerance);
      for (const gpu::Dispatch& d : work.dispatches)
        if (d.kernel == &kernel) ran_[{&kernel, d.entry}].insert(constants);
    }
  }

  // make() must throw std::invalid_argument whose text contains `what`.
  void refuses(std::string_view what, const std::function<void()>& make);

  // The valid combinations with which every() has not run an entry of a kernel, but those that need
  // a feature this device lacks.
  std::vector<gpu::Constants> missed(const gpu::Kernel& kernel,
                                     std::string_view entry = "main") const;

  // Reads a view back: f16 as f32, u32 as is.
  std::vector<float> read(const gpu::View& view);

  gpu::Device& device;
  size_t checks = 0;  // done so far

 private:
  // What the work leaves in the memory that its first dispatch writes, which is as before then.
  std::vector<std::byte> results(const gpu::Work& work);
  gpu::View place(gpu::Shape shape, gpu::Type type, std::span<const std::byte> bytes,
                  std::string label);
  // Once for each kernel: make() must throw std::invalid_argument for values that a constant may
  // not have.
  void refuses_other_values(const gpu::Kernel& kernel,
                            const std::function<void(const gpu::Constants&)>& make);

  gpu::Caps caps_;  // the device's, or those of one that cases are made for
  Sink sink_;
  std::vector<gpu::BufferPtr> memory_;
  std::map<std::pair<const gpu::Kernel*, std::string_view>, std::set<gpu::Constants>> ran_;
  std::set<const gpu::Kernel*> tried_other_values_;
  std::mt19937 rng_{20'240'601};
};

// The cases of one room, by its name.
struct KernelTest {
  const char* name;
  void (*run)(Lab&);

  KernelTest(const char* name, void (*run)(Lab&));
};
std::vector<const KernelTest*> kernel_tests();  // sorted by name
const KernelTest& kernel_test(std::string_view name);

// The tolerances of a room's cases, which do not run: that of most, and the widest abs and rel. The
// device holds their memory.
struct Tolerances {
  Tolerance usual, widest;
};
Tolerances tolerances(const KernelTest& test, gpu::Device& device);

// Runs a room's cases on a device. Throws Error at the first that fails, or when none of them ran
// some entry of the kernel with some valid combination of its overrides. Returns the number of
// checks.
size_t run_kernel_test(const KernelTest& test, gpu::Device& device);
// The same with a few of the cases: the first, the second, the fourth and so on.
size_t run_some_cases(const KernelTest& test, gpu::Device& device);
// The same with those that multiply subgroup matrices, on a device without: matrix.portable.wgsl
// stands in for them.
size_t run_matrix_cases(const KernelTest& test, gpu::Device& device);

}  // namespace ms

// Defines the cases of a room: KERNEL_TEST(rmsnorm) { … lab.check(…) … }
#define KERNEL_TEST(room)                                       \
  static void room##_cases(ms::Lab& lab);                       \
  static const ms::KernelTest room##_test(#room, room##_cases); \
  static void room##_cases([[maybe_unused]] ms::Lab& lab)
