// lab.cpp: comparing kernels with their twins.
#include "kernels/lab.hpp"

#include <algorithm>
#include <bit>

#include "base/half.hpp"
#include "base/quantize.hpp"
#include "kernels/slot.hpp"

namespace ms {

namespace {

std::vector<KernelTest const*>& registry() {
  static std::vector<const KernelTest*> tests;
  return tests;
}

double element(std::span<const std::byte> bytes, gpu::Type type, size_t i) {
  if (type == gpu::Type::f16) {
    uint16_t bits;
    std::memcpy(&bits, bytes.data() + 2 * i, 2);
    return f16_to_f32(bits);
  }
  uint32_t bits;
  std::memcpy(&bits, bytes.data() + 4 * i, 4);
  return type == gpu::Type::u32 ? double(bits) : double(std::bit_cast<float>(bits));
}

// The first differences of two tensors as text; empty when they agree. Words, and with `exact` all,
// are compared bit by bit; else NaN never agrees, but where neither wrote.
std::string differences(std::span<const std::byte> got, std::span<const std::byte> want,
                        std::span<const std::byte> before, const gpu::View& view, Tolerance t) {
  const size_t bytes = bytes_of(view.type);
  std::string text;
  size_t wrong = 0;
  for (size_t i = 0; i < view.size(); ++i) {
    const double a = element(got, view.type, i), b = element(want, view.type, i);
    const auto same = [&](std::span<const std::byte> x, std::span<const std::byte> y) {
      return std::memcmp(x.data() + i * bytes, y.data() + i * bytes, bytes) == 0;
    };
    const bool bits = view.type == gpu::Type::u32 || (t.abs == 0 && t.rel == 0);
    if (bits ? same(got, want) : std::abs(a - b) <= t.abs + t.rel * std::abs(b) || a == b) continue;
    if (same(got, before) && same(want, before)) continue;
    if (++wrong <= 5) text += fmt::format("\n    element {}: got {}, want {}", i, a, b);
  }
  return wrong ? fmt::format("{} of {} elements differ{}", wrong, view.size(), text) : "";
}

}  // namespace

gpu::View Lab::place(gpu::Shape shape, gpu::Type type, std::span<const std::byte> bytes,
                     std::string label) {
  memory_.push_back(device.buffer(shape.size() * bytes_of(type), std::move(label)));
  std::vector<std::byte> words(bytes.begin(), bytes.end());
  words.resize((words.size() + 3) / 4 * 4);
  if (!words.empty()) device.write(*memory_.back(), 0, words);
  return gpu::view(memory_.back(), shape, type);
}

gpu::View Lab::upload(gpu::Shape shape, gpu::Type type, std::span<const std::byte> bytes) {
  return place(shape, type, bytes, "input");
}

Weight Lab::weight(WeightType type, uint32_t rows, uint32_t cols, uint32_t row_tile) {
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<uint32_t> quants(quant_words(type, rows, cols, row_tile)),
      scales(scale_words(type, rows, cols, row_tile));
  const TensorType file_type = tensor_type(type);
  std::vector<std::byte> file;
  if (can_quantize(file_type)) {
    std::vector<float> data(size_t(rows) * cols);
    for (float& v : data) v = uniform(rng_);
    file = quantize(file_type, data);
  } else {
    file = random_blocks(file_type, uint64_t(rows) * cols / info(file_type).block_size, 1, rng_);
  }
  const size_t row_bytes = file.size() / rows;
  for (size_t row = 0; row < rows; ++row)
    pack_row(type, row, cols, std::span(file).subspan(row * row_bytes, row_bytes), quants, scales,
             row_tile);
  return {.type = type,
          .rows = rows,
          .cols = cols,
          .quants = words({quants.size()}, [&](size_t i) { return quants[i]; }),
          .scales = scales.empty() ? gpu::View{}
                                   : words({scales.size()}, [&](size_t i) { return scales[i]; }),
          .row_tile = row_tile};
}

std::vector<Weight> Lab::in_one_buffer(std::vector<Weight> weights) {
  for (gpu::View Weight::*part : {&Weight::quants, &Weight::scales}) {
    std::vector<std::byte> bytes;
    for (Weight& w : weights) {
      gpu::View& view = w.*part;
      if (!view) continue;
      const auto more = device.read(*view.buffer, view.offset, view.bytes());
      bytes.resize((bytes.size() + 255) / 256 * 256);  // where a binding may begin
      view.offset = bytes.size();
      bytes.insert(bytes.end(), more.begin(), more.end());
    }
    if (bytes.empty()) continue;
    const gpu::View all = upload({bytes.size() / 4}, gpu::Type::u32, bytes);
    for (Weight& w : weights)
      if (w.*part) (w.*part).buffer = all.buffer, (w.*part).offset += all.offset;
  }
  return weights;
}

gpu::View Lab::blocks(TensorType type, uint64_t count) {
  const size_t block_bytes = info(type).block_bytes;
  std::vector<size_t> scales = {0};  // where a block has an f16
  if (type == TensorType::q4_k) scales = {0, 2};
  if (type == TensorType::q6_k) scales = {208};
  require(scales[0] || type == TensorType::q8_0 || type == TensorType::q4_k,
          "no random blocks of {}", info(type).name);
  std::vector<std::byte> data((count * block_bytes + 3) / 4 * 4);
  for (size_t i = 0; i < data.size(); i += 4) {
    const uint32_t bits = rng_();
    std::memcpy(&data[i], &bits, 4);
  }
  constexpr uint16_t special[] = {0, 0x8000, 1, 0x83ff, 0x0400, 0x7bff, 0xfbff};
  for (size_t block = 0; block < count; ++block)
    for (size_t at : scales) {
      uint16_t bits = uint16_t(rng_());
      if ((bits & 0x7c00) == 0x7c00) bits ^= 0x4000;  // infinity or NaN
      const size_t turn = block + at;
      if (turn < std::size(special)) bits = special[turn];
      std::memcpy(&data[block * block_bytes + at], &bits, 2);
    }
  return upload({data.size() / 4}, gpu::Type::u32, data);
}

gpu::View Lab::values(gpu::Shape shape, const std::function<float(size_t)>& value) {
  std::vector<float> data(shape.size());
  for (size_t i = 0; i < data.size(); ++i) data[i] = value(i);
  return place(shape, gpu::Type::f32, std::as_bytes(std::span(data)), "input");
}

gpu::View Lab::random(gpu::Shape shape, float low, float high) {
  std::uniform_real_distribution<float> uniform(low, high);
  return values(shape, [&](size_t) { return uniform(rng_); });
}

gpu::View Lab::random_f16(gpu::Shape shape, float low, float high) {
  std::uniform_real_distribution<float> uniform(low, high);
  std::vector<uint16_t> data(shape.size());
  for (uint16_t& v : data) v = f32_to_f16(uniform(rng_));
  return place(shape, gpu::Type::f16, std::as_bytes(std::span(data)), "input");
}

gpu::View Lab::words(gpu::Shape shape, const std::function<uint32_t(size_t)>& value) {
  std::vector<uint32_t> data(shape.size());
  for (size_t i = 0; i < data.size(); ++i) data[i] = value(i);
  return place(shape, gpu::Type::u32, std::as_bytes(std::span(data)), "input");
}

gpu::View Lab::slots(const std::vector<uint32_t>& positions, size_t stopped) {
  std::vector<Slot> slots(positions.size());
  for (size_t i = 0; i < slots.size(); ++i)
    slots[i] = {.position = positions[i],
                .stopped = i == stopped ? Stopped::token : Stopped::running};
  return upload({slots.size(), sizeof(Slot) / 4}, gpu::Type::u32, std::as_bytes(std::span(slots)));
}

KvCache Lab::cache(KvType type, uint32_t rows, uint32_t kv_heads, uint32_t head_dim, float range) {
  const gpu::Shape shape = kv_shape(type, rows, kv_heads, head_dim);
  const size_t integers = size_t(rows) * kv_heads * head_dim / 4;
  std::uniform_real_distribution<float> scale(0, range / 127);
  const auto tensor = [&] {
    if (type == KvType::f32) return random(shape, -range, range);
    if (type == KvType::f16) return random_f16(shape, -range, range);
    return words(shape, [&](size_t i) {
      if (i < integers) return uint32_t(rng_());
      const uint32_t low = f32_to_f16(scale(rng_));
      return low | uint32_t(f32_to_f16(scale(rng_))) << 16;
    });
  };
  const gpu::View k = tensor();
  return {.k = k, .v = tensor()};
}

AttentionParts Lab::parts(uint32_t rows, uint32_t heads, uint32_t head_dim, uint32_t splits,
                          bool f16) {
  AttentionParts parts{
      .rows = rows, .heads = heads, .head_dim = head_dim, .splits = splits, .f16 = f16};
  const uint64_t values = parts.value_words();
  // Of head h the first h % (splits + 1) splits have keys; the others zeros.
  parts.words = words({parts.size()}, [&](size_t i) {
    const size_t split =
        i < values ? i / (values / (size_t(rows) * heads * splits)) : (i - values) / 2;
    const size_t head = split / splits;
    const bool some = split % splits < (head + splits - rows % 2) % (splits + 1);
    const uint32_t random = uint32_t(i * 2654435761u) >> 8;  // 24 bits
    if (i >= values)
      return std::bit_cast<uint32_t>(i % 2 == values % 2 ? float(random % 41) - 20.0f
                                     : some              ? 1.0f + float(random % 100)
                                                         : 0.0f);
    if (!some) return 0u;
    return f16 ? 0x3000b400u + (random & 0x03ff03ffu)
               : std::bit_cast<uint32_t>(float(random) / 8388608.0f - 1);
  });
  return parts;
}

gpu::View Lab::output(gpu::Shape shape, gpu::Type type) {
  // An f16 NaN is 0x7e00: two of them make an f32 NaN as well.
  const std::vector<uint32_t> poison((shape.size() * bytes_of(type) + 3) / 4,
                                     type == gpu::Type::u32 ? 0xdeadbeef : 0x7fc07e00);
  return place(shape, type, std::as_bytes(std::span(poison)), "output");
}

gpu::View Lab::zeros(gpu::Shape shape) {
  const std::vector<uint32_t> words(shape.size());
  return place(shape, gpu::Type::u32, std::as_bytes(std::span(words)), "scratch");
}

std::vector<float> Lab::read(const gpu::View& view) {
  const auto bytes = device.read(*view.buffer, view.offset, view.bytes());
  std::vector<float> result(view.size());
  for (size_t i = 0; i < result.size(); ++i) result[i] = float(element(bytes, view.type, i));
  return result;
}

void Lab::check(const gpu::Work& work, Tolerance tolerance) {
  ++checks;
  if (sink_) return sink_(work, tolerance);
  const gpu::Recording recording = device.record(work);
  std::map<gpu::Buffer*, std::vector<std::byte>> before;
  for (const gpu::Dispatch& d : recording.dispatches())
    for (const gpu::View& view : d.bindings)
      if (view && !before.contains(view.buffer))
        before[view.buffer] = device.read(*view.buffer, 0, view.buffer->bytes);

  device.submit(recording);
  std::map<gpu::Buffer*, std::vector<std::byte>> got;
  for (auto& [buffer, bytes] : before) {
    got[buffer] = device.read(*buffer, 0, buffer->bytes);
    device.write(*buffer, 0, bytes);
  }
  for (const gpu::Dispatch& d : recording.dispatches()) device.run_twin(d);

  std::string text;
  for (const gpu::Dispatch& d : recording.dispatches())
    for (size_t i = 0; i < d.bindings.size(); ++i) {
      const gpu::View& view = d.bindings[i];
      if (!view || d.kernel->bindings[i] != gpu::out || view.buffer->label == "scratch") continue;
      const auto want = device.read(*view.buffer, view.offset, view.bytes());
      const std::string wrong =
          differences(std::span(got[view.buffer]).subspan(view.offset), want,
                      std::span(before[view.buffer]).subspan(view.offset), view, tolerance);
      if (!wrong.empty())
        text += fmt::format("\n  {}\n  binding {}: {}", to_string(d), i + 1, wrong);
    }
  for (auto& [buffer, bytes] : before) device.write(*buffer, 0, bytes);
  if (!text.empty())
    fail("{} on {} ({}{}) differs from its twin:{}", recording.dispatches().front().kernel->name,
         caps().name, to_string(caps().variant), caps().robust ? "" : ", no robustness", text);
}

std::vector<std::byte> Lab::results(const gpu::Work& work) {
  const gpu::Dispatch& first = work.dispatches.front();
  std::map<gpu::Buffer*, std::vector<std::byte>> before;
  for (size_t i = 0; i < first.bindings.size(); ++i)
    if (const gpu::View& view = first.bindings[i]; view && first.kernel->bindings[i] == gpu::out)
      before[view.buffer] = device.read(*view.buffer, 0, view.buffer->bytes);
  device.submit(device.record(work));
  std::vector<std::byte> all;
  for (const auto& [buffer, bytes] : before) {
    const auto written = device.read(*buffer, 0, buffer->bytes);
    all.insert(all.end(), written.begin(), written.end());
    device.write(*buffer, 0, bytes);
  }
  return all;
}

gpu::Caps Lab::with_bindings_of(uint64_t bytes) const {
  gpu::Caps small = caps_;
  small.max_binding_bytes = bytes;
  return small;
}

void Lab::check_parts(const gpu::Work& whole, const gpu::Work& parts, const gpu::Caps& caps,
                      size_t count, Tolerance tolerance) {
  const std::string_view kernel = whole.dispatches.front().kernel->name;
  if (whole.dispatches.size() != 1 || parts.dispatches.size() != count)
    fail("{} in {} and {} dispatches, not in 1 and {}", kernel, whole.dispatches.size(),
         parts.dispatches.size(), count);
  for (const gpu::Dispatch& d : parts.dispatches)
    for (const gpu::View& view : d.bindings)
      if (view.bytes() > caps.max_binding_bytes || view.offset % 256 != 0)
        fail("{}: {} from byte {} of bindings of {}", to_string(d), view, view.offset,
             caps.max_binding_bytes);
  check(parts, tolerance);
  if (runs() && results(parts) != results(whole))
    fail("{} parts of {} do not write what the whole does", count, to_string(whole.dispatches[0]));
}

void Lab::refuses_other_values(const gpu::Kernel& kernel,
                               const std::function<void(const gpu::Constants&)>& make) {
  if (!tried_other_values_.insert(&kernel).second) return;
  gpu::Constants defaults;
  for (const gpu::ConstantInfo& info : kernel.constants) defaults.push_back(info.fallback);
  for (size_t i = 0; i < defaults.size(); ++i) {
    if (defaults[i].kind == 'b') continue;
    for (const double value : {0.0, 1.0, 3.0, 48.0, 100.0, 512.0, 4294967295.0}) {
      if (kernel.constants[i].takes(value)) continue;
      gpu::Constants constants = defaults;
      constants[i].value = value;
      try {
        make(constants);
      } catch (const std::invalid_argument&) {
        continue;
      }
      fail("{} accepts {}", kernel.name, to_string(constants));
    }
  }
}

void Lab::refuses(std::string_view what, const std::function<void()>& make) {
  ++checks;
  try {
    make();
  } catch (const std::invalid_argument& error) {
    if (std::string_view(error.what()).find(what) != std::string_view::npos) return;
    fail("refused with \"{}\", which does not say \"{}\"", error.what(), what);
  }
  fail("accepted what must be refused with \"{}\"", what);
}

std::vector<gpu::Constants> Lab::missed(const gpu::Kernel& kernel, std::string_view entry) const {
  const auto ran = ran_.find({&kernel, entry});
  std::vector<gpu::Constants> result;
  if (kernel.bindings.size() > caps().max_storage_buffers) return result;
  for (const gpu::Constants& constants : gpu::every(kernel)) {
    const auto needs = [&](std::string_view feature) {
      return std::ranges::any_of(
          constants, [&](const gpu::Constant& c) { return c.name == feature && c.value != 0; });
    };
    if (needs("USE_SUBGROUPS") && caps().min_subgroup_size < 8)
      continue;  // some want as many lanes
    if (needs("MATRIX") && !caps().variant.matrix) continue;
    if (needs("ATTENTION") && caps().max_workgroup_bytes < 40 << 10) continue;  // some heads' tile
    const auto lanes = std::ranges::find(constants, "KEY_LANES", &gpu::Constant::name);
    if (lanes != constants.end() && lanes->value > caps().min_subgroup_size) continue;
    if (ran == ran_.end() || !ran->second.contains(constants)) result.push_back(constants);
  }
  return result;
}

KernelTest::KernelTest(const char* name, void (*run)(Lab&)) : name(name), run(run) {
  registry().push_back(this);
}

std::vector<const KernelTest*> kernel_tests() {
  auto tests = registry();
  std::ranges::sort(tests, {}, [](const KernelTest* test) { return std::string_view(test->name); });
  return tests;
}

const KernelTest& kernel_test(std::string_view name) {
  for (const KernelTest* test : registry())
    if (test->name == name) return *test;
  fail("{} has no cases", name);
}

Tolerances tolerances(const KernelTest& test, gpu::Device& device) {
  gpu::Caps caps;  // with all that cases ask for
  caps.variant = {.subgroups = true, .f16 = true, .matrix = true};
  caps.min_subgroup_size = caps.max_subgroup_size = 32;
  caps.max_workgroup_bytes = 48 << 10;
  caps.max_storage_buffers = FusedLayer::storage_buffers;
  std::map<Tolerance, size_t> counts;
  Lab lab(device, caps, [&](const gpu::Work&, Tolerance tolerance) { ++counts[tolerance]; });
  test.run(lab);
  Tolerances result{exact, exact};
  size_t most = 0;
  for (const auto& [tolerance, count] : counts) {
    if (count > most) most = count, result.usual = tolerance;
    result.widest = {std::max(result.widest.abs, tolerance.abs),
                     std::max(result.widest.rel, tolerance.rel)};
  }
  return result;
}

size_t run_kernel_test(const KernelTest& test, gpu::Device& device) {
  Lab lab(device);
  test.run(lab);
  for (const gpu::Kernel* kernel : all_kernels())
    if (kernel->name == test.name)
      for (const std::string_view entry : kernel->entries)
        if (const auto missed = lab.missed(*kernel, entry); !missed.empty())
          fail("{}: {} valid combinations of {} were run by no case, the first: {}", test.name,
               missed.size(), entry, to_string(missed.front()));
  return lab.checks;
}

namespace {

// Of the cases for a device of these caps those that are chosen. How many there were.
size_t run_chosen_cases(const KernelTest& test, gpu::Device& device, const gpu::Caps& caps,
                        const std::function<bool(const gpu::Work&)>& chosen) {
  Lab checking(device, caps, {});
  Lab choosing(device, caps, [&](const gpu::Work& work, Tolerance tolerance) {
    if (chosen(work)) checking.check(work, tolerance);
  });
  test.run(choosing);
  return checking.checks;
}

bool has_matrix_kernel(const gpu::Work& work) {
  return std::ranges::any_of(work.dispatches, [](const gpu::Dispatch& d) {
    const auto matrix = std::ranges::find(d.constants, "MATRIX", &gpu::Constant::name);
    return matrix != d.constants.end() && matrix->value != 0;
  });
}

}  // namespace

size_t run_some_cases(const KernelTest& test, gpu::Device& device) {
  size_t seen = 0;
  return run_chosen_cases(test, device, device.caps(),
                          [&](const gpu::Work&) { return std::has_single_bit(++seen); });
}

size_t run_matrix_cases(const KernelTest& test, gpu::Device& device) {
  return run_chosen_cases(test, device, device.caps(), has_matrix_kernel);
}

}  // namespace ms
