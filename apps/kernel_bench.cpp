// kernel_bench.cpp: timing the kernels at the shapes of models, and what their times are shares of.
#include "apps/kernel_bench.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <optional>

#include "apps/bandwidth.hpp"
#include "kernels/shapes.hpp"

namespace ms {

namespace {

struct Line {
  const ModelShape& shape;
  double us;

  std::string name() const { return fmt::format("{} {}", shape.kernel, shape.what); }
  double gb_per_s() const { return shape.bytes / us / 1e3; }
  double tflop_per_s() const { return shape.flops / us / 1e6; }
};

// Microseconds of the work: the sum of its dispatches' medians.
double time_work(gpu::Device& device, const gpu::Work& work) {
  const gpu::Recording recording = device.record(work);
  device.warm_up(recording);
  const std::vector<double> us = device.time(recording, 15);
  return std::reduce(us.begin(), us.end());
}

Line time_shape(gpu::Device& device, const ModelShape& shape) {
  Tensors tensors(device);
  const gpu::Work work = shape.make(tensors);
  check_shape(device, shape, work);
  return {shape, time_work(device, work)};
}

// What the lines are shares of: the fastest that this run saw, so that none is above it; but what
// moves little may lie in a cache.
struct Limits {
  Bandwidth bandwidth;
  double tflop_per_s = 0;  // 0: no matmul was timed
  std::string arithmetic = {};
  double most_cached = 0;  // bytes

  std::optional<double> of_bandwidth(const Line& line) const {
    if (line.shape.arithmetic || line.gb_per_s() > bandwidth.gb_per_s) return std::nullopt;
    return line.gb_per_s() / bandwidth.gb_per_s;
  }
  std::optional<double> of_arithmetic(const Line& line) const {
    if (!line.shape.arithmetic || tflop_per_s == 0) return std::nullopt;
    return line.tflop_per_s() / tflop_per_s;
  }
};

Limits limits_of(const std::vector<Line>& lines, const gpu::Caps& caps, Bandwidth probe) {
  Limits limits{.bandwidth = std::move(probe),
                .most_cached = double(caps.cpu ? 2 << 20 : 128 << 20)};
  for (const Line& line : lines) {
    const bool memory = !line.shape.arithmetic && line.shape.bytes >= limits.most_cached;
    if (memory && line.gb_per_s() > limits.bandwidth.gb_per_s)
      limits.bandwidth = {line.gb_per_s(), line.name()};
    if (line.shape.kernel == matmul_kernel.name && line.tflop_per_s() > limits.tflop_per_s)
      limits.tflop_per_s = line.tflop_per_s(), limits.arithmetic = line.name();
  }
  // Other products may be faster than every matmul.
  for (const Line& line : lines)
    if (limits.tflop_per_s > 0 && line.shape.arithmetic && line.tflop_per_s() > limits.tflop_per_s)
      limits.tflop_per_s = line.tflop_per_s(), limits.arithmetic = line.name();
  return limits;
}

nlohmann::ordered_json to_json(const Line& line, const Limits& limits) {
  nlohmann::ordered_json json{{"kernel", line.shape.kernel},
                              {"shape", line.shape.what},
                              {"us", line.us},
                              {"gb_per_s", line.gb_per_s()},
                              {"tflop_per_s", line.tflop_per_s()}};
  if (const auto share = limits.of_bandwidth(line)) json["share_of_bandwidth"] = *share;
  if (const auto share = limits.of_arithmetic(line)) json["share_of_arithmetic"] = *share;
  return json;
}

std::vector<std::string> to_row(const Line& line, const Limits& limits) {
  const auto percent = [](std::optional<double> share) {
    return share ? fmt::format("{:.0f} %", 100 * *share) : "";
  };
  const bool cached = !line.shape.arithmetic && !limits.of_bandwidth(line);
  return {std::string(line.shape.kernel),
          line.shape.what,
          fmt::format("{:.1f}", line.us),
          fmt::format("{:.1f}", line.gb_per_s()),
          cached ? "cached" : percent(limits.of_bandwidth(line)),
          line.shape.flops ? fmt::format("{:.3g}", line.tflop_per_s()) : "",
          percent(limits.of_arithmetic(line))};
}

}  // namespace

void bench_kernels(const GlobalOptions& options, const std::vector<std::string>& names, bool json) {
  const auto device = gpu::Device::open(device_options(options));
  const gpu::Caps& caps = device->caps();
  if (!caps.timestamps) fail("{} has no timestamps", caps.name);
  std::vector<ModelShape> shapes = model_shapes(caps);
  if (!names.empty())
    std::erase_if(shapes, [&](const ModelShape& shape) {
      return std::ranges::find(names, shape.kernel) == names.end();
    });

  std::vector<Line> lines;
  Progress progress("timing");
  for (const ModelShape& shape : shapes) {
    progress(lines.size(), shapes.size());
    lines.push_back(time_shape(*device, shape));
  }
  const Limits limits = limits_of(lines, caps, measure_bandwidth(*device));
  progress.clear();

  if (json) {
    nlohmann::ordered_json report{{"device", caps.name},
                                  {"driver", caps.driver},
                                  {"variant", to_string(caps.variant)},
                                  {"robust", caps.robust},
                                  {"bandwidth_gb_per_s", limits.bandwidth.gb_per_s},
                                  {"bandwidth_measured_by", limits.bandwidth.how},
                                  {"kernels", nlohmann::ordered_json::array()}};
    if (limits.tflop_per_s > 0) {
      report["arithmetic_tflop_per_s"] = limits.tflop_per_s;
      report["arithmetic_measured_by"] = limits.arithmetic;
    }
    for (const Line& line : lines) report["kernels"].push_back(to_json(line, limits));
    fmt::print("{}\n", report.dump(2));
    return;
  }
  std::vector<std::vector<std::string>> table = {
      {"KERNEL", "SHAPE", "µs", "GB/s", "OF BANDWIDTH", "TFLOP/s", "OF ARITHMETIC"}};
  for (const Line& line : lines) table.push_back(to_row(line, limits));
  print_table(table);
  fmt::print("\n{}, {}, {}, {} bounds checks\n", caps.name, caps.driver, to_string(caps.variant),
             caps.robust ? "with" : "without");
  fmt::print("checked: each line's pipelines against their twins, in this process\n");
  fmt::print(
      "bandwidth: {:.1f} GB/s, the fastest of what moved {} or more here: {}; cached: faster, but "
      "smaller\n",
      limits.bandwidth.gb_per_s, binary_bytes(uint64_t(limits.most_cached)), limits.bandwidth.how);
  if (limits.tflop_per_s > 0)
    fmt::print("arithmetic: {:.3g} TFLOP/s, the fastest here: {}\n", limits.tflop_per_s,
               limits.arithmetic);
}

}  // namespace ms
