// kernel_bench.cpp: the shapes that kernels are timed at, and their timing.
#include "apps/kernel_bench.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <random>

#include "apps/bandwidth.hpp"
#include "kernels/migration_cases.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

// Memory for one shape: large, so that it is filled by a pattern of 1 MiB, again and again.
class Memory {
 public:
  explicit Memory(gpu::Device& device) : device(device) {}

  // Numbers in [-1, 1); of f16 and of packed weights, in [2^-5, 2^-4): any bytes would make some
  // scales infinite.
  gpu::View f32(gpu::Shape shape) { return filled(shape, gpu::Type::f32, false); }
  gpu::View f16(gpu::Shape shape) { return filled(shape, gpu::Type::f16, true); }
  gpu::View words(gpu::Shape shape) { return filled(shape, gpu::Type::u32, true); }
  gpu::View ids(uint32_t n, uint32_t below) {
    std::vector<uint32_t> data(n);
    for (uint32_t i = 0; i < n; ++i) data[i] = uint32_t(i * 7919ull % below);
    const gpu::View view = words({n});
    device.write(*view.buffer, 0, std::as_bytes(std::span(data)));
    return view;
  }
  Weight weight(WeightType type, uint32_t rows, uint32_t cols) {
    Weight w{.type = type, .rows = rows, .cols = cols, .row_tile = choose_row_tile(device.caps())};
    w.quants = words({quant_words(type, rows, cols, w.row_tile)});
    if (const uint64_t n = scale_words(type, rows, cols, w.row_tile)) w.scales = words({n});
    return w;
  }

  gpu::Device& device;

 private:
  gpu::View filled(gpu::Shape shape, gpu::Type type, bool halves) {
    memory_.push_back(device.buffer(shape.size() * bytes_of(type), "bench"));
    std::vector<uint32_t> pattern(1 << 18);
    std::mt19937 rng(1);
    for (uint32_t& word : pattern)
      word = halves ? 0x28002800u | (rng() & 0x03ff03ff)
                    : std::bit_cast<uint32_t>(float(int32_t(rng())) / 2147483648.0f);
    const auto bytes = std::as_bytes(std::span(pattern));
    for (uint64_t at = 0; at < memory_.back()->bytes; at += bytes.size())
      device.write(*memory_.back(), at,
                   bytes.first(std::min<uint64_t>(bytes.size(), memory_.back()->bytes - at)));
    return gpu::view(memory_.back(), shape, type);
  }

  std::vector<gpu::BufferPtr> memory_;
};

struct Shape {
  std::string_view kernel;
  std::string what;  // whose shape, and the extents
  double bytes = 0;  // read and written, each once
  double flops = 0;
  std::function<gpu::Work(Memory&)> make;
};

// A CPU gets a 64th of the rows.
class Shapes {
 public:
  explicit Shapes(const gpu::Caps& caps) : caps_(caps) {
    products();
    elementwise();
    rows();
    attention();
    experts();
    std::ranges::stable_sort(all, {}, &Shape::kernel);
  }
  std::vector<Shape> all;

 private:
  uint32_t scaled(uint32_t n) const { return caps_.cpu ? std::max(n / 64, 8u) : n; }
  void add(Shape shape) { all.push_back(std::move(shape)); }

  void products() {
    struct Matrix {
      const char* what;
      uint32_t rows, cols;
    };
    const auto bytes = [](WeightType type, const Matrix& m) {
      return 4.0 * double(quant_words(type, m.rows, m.cols) + scale_words(type, m.rows, m.cols));
    };
    const auto gemv = [&](Matrix m, WeightType type) {
      m.rows = scaled(m.rows);
      add({"matmul_gemv", fmt::format("{} [{}, {}] {}", m.what, m.rows, m.cols, to_string(type)),
           bytes(type, m), 2.0 * m.rows * m.cols, [=, this](Memory& mem) {
             return matmul_gemv(caps_, {.x = mem.f32({1, m.cols}),
                                        .weight = mem.weight(type, m.rows, m.cols),
                                        .y = mem.f32({1, m.rows})});
           }});
    };
    for (const Matrix& m : {Matrix{"large", 65536, 8192},
                            {"8B head", 128256, 4096},
                            {"8B gate and up", 28672, 4096},
                            {"square", 8192, 8192}})
      gemv(m, WeightType::f16);
    for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_0, WeightType::q4_k,
                            WeightType::q6_k}) {
      gemv({"8B q, k and v", 6144, 4096}, type);
      gemv({"1B head", 128256, 2048}, type);
      for (Matrix m :
           {Matrix{"8B output", 4096, 4096}, {"8B down", 4096, 14336}, {"1B down", 2048, 8192}}) {
        m.rows = scaled(m.rows);
        add({"matmul_gemv_residual",
             fmt::format("{} [{}, {}] {}", m.what, m.rows, m.cols, to_string(type)), bytes(type, m),
             2.0 * m.rows * m.cols, [=, this](Memory& mem) {
               return matmul_gemv_residual(caps_, {.x = mem.f32({1, m.cols}),
                                                   .weight = mem.weight(type, m.rows, m.cols),
                                                   .residual = mem.f32({1, m.rows}),
                                                   .y = mem.f32({1, m.rows})});
             }});
      }
      for (Matrix m : {Matrix{"8B gate and up", 28672, 4096}, {"1B gate and up", 16384, 2048}}) {
        m.rows = scaled(m.rows);
        add({"fused_ffn", fmt::format("{} [{}, {}] {}", m.what, m.rows, m.cols, to_string(type)),
             bytes(type, m), 2.0 * m.rows * m.cols, [=, this](Memory& mem) {
               return fused_ffn(caps_, {.x = mem.f32({1, m.cols}),
                                        .weight = mem.weight(type, m.rows, m.cols),
                                        .norm = mem.f32({m.cols}),
                                        .y = mem.f32({1, m.rows / 2})});
             }});
      }
    }
    for (Matrix m : {Matrix{"8B q, k and v", 6144, 4096}, {"8B gate and up", 28672, 4096}}) {
      m.rows = scaled(m.rows);
      add({"fused_matmul_q4", fmt::format("{} [{}, {}]", m.what, m.rows, m.cols),
           m.rows * (m.cols / 256.0) * 144, 2.0 * m.rows * m.cols, [=, this](Memory& mem) {
             return fused_matmul_q4(caps_, {.a = mem.f32({1, m.cols}),
                                            .b = mem.words({m.rows, m.cols / 256, 36}),
                                            .c = mem.f32({1, m.rows})});
           }});
    }
    for (uint32_t columns : {2048u, 4096u}) {
      const uint32_t n = scaled(columns);
      add({"fused_matmul_rmsnorm", fmt::format("[{}, 4096]", n), 4.0 * n * 4096, 2.0 * n * 4096,
           [=, this](Memory& mem) {
             return fused_matmul_rmsnorm(caps_, {.x = mem.f32({1, 4096}),
                                                 .weight = mem.f32({n, 4096}),
                                                 .norm_weight = mem.f32({n}),
                                                 .y = mem.f32({1, n}),
                                                 .transpose_b = true});
           }});
    }
    for (WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_0})
      for (Matrix m : {Matrix{"8B q, k and v, 512 tokens", 6144, 4096},
                       {"8B down, 512 tokens", 4096, 14336}}) {
        m.rows = scaled(m.rows);
        const uint32_t tokens = caps_.cpu ? 64 : 512;
        add({"matmul", fmt::format("{} [{}, {}] {}", m.what, m.rows, m.cols, to_string(type)),
             bytes(type, m) + 4.0 * tokens * (m.rows + m.cols), 2.0 * tokens * m.rows * m.cols,
             [=, this](Memory& mem) {
               return matmul(caps_, {.a = mem.f32({tokens, m.cols}),
                                     .b = mem.weight(type, m.rows, m.cols),
                                     .c = mem.f32({tokens, m.rows})});
             }});
      }
  }

  // 256 MiB of each operand, or for a CPU 4.
  void elementwise() {
    const uint32_t n = scaled(1 << 26), cols = 4096, rows = n / cols;
    const auto each = [&](std::string_view kernel, double bytes_each,
                          std::function<gpu::Work(Memory&)> make) {
      add({kernel, fmt::format("{} elements", grouped(n)), bytes_each * n, 0, std::move(make)});
    };
    each("residual", 12, [=, this](Memory& m) {
      return residual(caps_, {.a = m.f32({n}), .b = m.f32({n}), .y = m.f32({n})});
    });
    each("scale", 8, [=, this](Memory& m) {
      return scale(caps_, {.x = m.f32({n}), .y = m.f32({n}), .scale = 0.5f});
    });
    each("silu", 12, [=, this](Memory& m) {
      return silu(
          caps_,
          {.input = m.f32({rows, cols}), .gate = m.f32({rows, cols}), .y = m.f32({rows, cols})});
    });
    each("split_qkv", 8, [=, this](Memory& m) {
      return split_qkv(caps_, {.qkv = m.f32({rows, cols}),
                               .q = m.f32({rows, cols / 2}),
                               .cache = {.k = m.f32({rows, cols / 4}),
                                         .v = m.f32({rows, cols / 4}),
                                         .layout = KvLayout::plain},
                               .head_dim = 128});
    });
    each("gelu", 12, [=, this](Memory& m) {
      return gelu(
          caps_,
          {.input = m.f32({rows, cols}), .gate = m.f32({rows, cols}), .y = m.f32({rows, cols})});
    });
    each("relu", 8,
         [=, this](Memory& m) { return relu(caps_, {.x = m.f32({n}), .y = m.f32({n})}); });
    each("bias_add", 8, [=, this](Memory& m) {
      return bias_add(caps_, {.bias = m.f32({cols}), .data = m.f32({rows, cols})});
    });
    each("fused_swiglu", 12, [=, this](Memory& m) {
      return fused_swiglu(
          caps_,
          {.input = m.f32({rows, 2 * cols}), .bias = m.f32({2 * cols}), .y = m.f32({rows, cols})});
    });
    each("cast_f32_to_f16", 6, [=, this](Memory& m) {
      return cast_f32_to_f16(caps_, {.x = m.f32({n}), .y = m.f16({n})});
    });
    each("bf16_to_f32", 6, [=, this](Memory& m) {
      return bf16_to_f32(caps_, {.x = m.words({n / 2}), .y = m.f32({n})});
    });
    each("bf16_to_f16", 4, [=, this](Memory& m) {
      return bf16_to_f16(caps_, {.x = m.words({n / 2}), .y = m.f16({n})});
    });
    const auto dequant = [&](std::string_view kernel, double block_bytes, double elements,
                             auto wrapper) {
      for (const gpu::Type type : {gpu::Type::f16, gpu::Type::f32})
        add({kernel, fmt::format("{} elements to {}", grouped(n), to_string(type)),
             n * (bytes_of(type) + block_bytes / elements), 0, [=, this](Memory& m) {
               const uint32_t blocks = n / uint32_t(elements);
               return wrapper(m.words({uint64_t(blocks) * uint64_t(block_bytes) / 4}),
                              type == gpu::Type::f16 ? m.f16({n}) : m.f32({n}), blocks);
             }});
    };
    dequant("dequant_q8_0", 34, 32, [this](gpu::View from, gpu::View y, uint32_t blocks) {
      return dequant_q8_0(caps_, {.quantized = from, .y = y, .num_blocks = blocks});
    });
    dequant("dequant_q6k", 210, 256, [this](gpu::View from, gpu::View y, uint32_t blocks) {
      return dequant_q6k(caps_, {.quantized = from, .y = y, .num_blocks = blocks});
    });
    dequant("dequant_q4k", 144, 256, [this](gpu::View from, gpu::View y, uint32_t blocks) {
      return dequant_q4k(caps_, {.quantized = from, .y = y, .num_blocks = blocks});
    });
    each("dequant_mxfp4", 4 + 17.0 / 32, [=, this](Memory& m) {
      return dequant_mxfp4(
          caps_,
          {.blocks = m.words({n / 8}), .scales = m.words({n / 128}), .y = m.f32({rows, cols})});
    });
    for (WeightType type : {WeightType::f32, WeightType::f16, WeightType::q4_0}) {
      const uint32_t vocab = scaled(32768);
      add({"gather",
           fmt::format("[{}, {}] of [{}, {}] {}", rows, cols, vocab, cols, to_string(type)),
           4.0 * n + 4.0 * double(quant_words(type, rows, cols) + scale_words(type, rows, cols)), 0,
           [=, this](Memory& m) {
             return gather(caps_, {.indices = m.ids(rows, vocab),
                                   .table = m.weight(type, vocab, cols),
                                   .y = m.f32({rows, cols})});
           }});
    }
  }

  void rows() {
    const uint32_t rows = scaled(4096), cols = 4096;
    const auto each = [&](std::string_view kernel, double bytes_each,
                          std::function<gpu::Work(Memory&)> make) {
      add({kernel, fmt::format("[{}, {}]", rows, cols), bytes_each * rows * cols, 0,
           std::move(make)});
    };
    each("rmsnorm", 8, [=, this](Memory& m) {
      return rmsnorm(caps_,
                     {.x = m.f32({rows, cols}), .weight = m.f32({cols}), .y = m.f32({rows, cols})});
    });
    each("softmax", 8, [=, this](Memory& m) {
      return softmax(caps_, {.x = m.f32({rows, cols}), .y = m.f32({rows, cols})});
    });
    each("softmax_log", 8, [=, this](Memory& m) {
      return softmax_log(caps_, {.x = m.f32({rows, cols}), .y = m.f32({rows, cols})});
    });
    const uint32_t tokens = scaled(2048), heads = 32, dim = 128;
    add({"rope_compute", fmt::format("[{}, {}, {}]", tokens, heads, dim),
         8.0 * tokens * heads * dim, 0, [=, this](Memory& m) {
           return rope_compute(caps_, {.x = m.f32({tokens, heads, dim})});
         }});
    add({"rope_precomputed", fmt::format("[{}, {}, {}]", tokens, heads, dim),
         8.0 * tokens * heads * dim, 0, [=, this](Memory& m) {
           return rope_precomputed(caps_, {.cos = m.f32({tokens, dim / 2}),
                                           .sin = m.f32({tokens, dim / 2}),
                                           .x = m.f32({tokens, heads, dim})});
         }});
    add({"rope_init", fmt::format("[{}, {}]", 64 * tokens, dim / 2), 4.0 * 64 * tokens * dim, 0,
         [=, this](Memory& m) {
           return rope_init(caps_, {.freqs = m.words({dim / 2, 2}),
                                    .cos = m.f32({64 * tokens, dim / 2}),
                                    .sin = m.f32({64 * tokens, dim / 2})});
         }});
    const uint32_t vocab = 128256;
    add({"sample_argmax", fmt::format("[1, {}]", vocab), 4.0 * vocab, 0, [=, this](Memory& m) {
           return sample_argmax(caps_, {.logits = m.f32({1, vocab}), .sampled = m.words({1})});
         }});
    add({"sample_topk", fmt::format("[1, {}], lists of 40", vocab), 4.0 * vocab, 0,
         [=, this](Memory& m) {
           return topk_lists(caps_, {.logits = m.f32({1, vocab}),
                                     .topk_indices = m.words({1, 40}),
                                     .topk_logits = m.f32({1, 40})});
         }});
  }

  // The 8B's: 32 heads of 128 over 8 of keys and values, in f16.
  void attention() {
    const uint32_t heads = 32, kv_heads = 8, dim = 128;
    const auto cache = [=](Memory& m, uint32_t keys) {
      return KvCache{.k = m.f16({keys, kv_heads, dim}), .v = m.f16({keys, kv_heads, dim})};
    };
    for (uint32_t keys : {scaled(4096), scaled(65536)})
      add({"attention_decode", fmt::format("8B, {} keys", keys), 4.0 * keys * kv_heads * dim,
           4.0 * keys * heads * dim, [=, this](Memory& m) {
             return attention_decode(caps_, {.q = m.f32({1, heads, dim}),
                                             .cache = cache(m, keys),
                                             .out = m.f32({1, heads, dim}),
                                             .kv_len = keys});
           }});
    for (uint32_t rows : {1u, 16u})
      add({"attention_streaming", fmt::format("8B, {} tokens, {} keys", rows, scaled(4096)),
           4.0 * scaled(4096) * kv_heads * dim, 4.0 * rows * scaled(4096) * heads * dim,
           [=, this](Memory& m) {
             return attention_streaming(caps_, {.q = m.f32({rows, heads, dim}),
                                                .cache = cache(m, scaled(4096)),
                                                .out = m.f32({rows, heads, dim}),
                                                .step = {.start_pos = scaled(4096) - rows},
                                                .kv_len = scaled(4096)});
           }});
    const uint32_t tokens = caps_.cpu ? 64 : 512;
    add({"attention_prefill", fmt::format("8B, {} tokens", tokens),
         8.0 * tokens * heads * dim + 4.0 * tokens * kv_heads * dim,
         2.0 * tokens * tokens * heads * dim, [=, this](Memory& m) {
           return attention_prefill(caps_, {.q = m.f32({tokens, heads, dim}),
                                            .cache = cache(m, tokens),
                                            .out = m.f32({tokens, heads, dim}),
                                            .kv_len = tokens});
         }});
  }

  // A layer of Qwen3-30B-A3B: 128 experts, 8 a token, rows of 2048.
  void experts() {
    const uint32_t experts = 128, top_k = 8, hidden = 2048;
    for (uint32_t tokens : {1u, caps_.cpu ? 16u : 512u}) {
      const uint32_t rows = tokens * top_k;
      add({"topk", fmt::format("30B-A3B, {} tokens", tokens), 4.0 * tokens * experts, 0,
           [=, this](Memory& m) {
             return topk(caps_, {.x = m.f32({tokens, experts}),
                                 .indices = m.words({tokens, top_k}),
                                 .weights = m.f32({tokens, top_k}),
                                 .softmax = true,
                                 .normalize = true});
           }});
      add({"moe_gather", fmt::format("30B-A3B, {} tokens", tokens), 8.0 * rows * hidden, 0,
           [=, this](Memory& m) {
             gpu::View ids = m.ids(rows, experts);
             return moe_gather(caps_, {.hidden = m.f32({tokens, hidden}),
                                       .expert_indices = ids.as({tokens, top_k}),
                                       .gathered = m.f32({rows, hidden}),
                                       .token_counts = m.words({experts}),
                                       .token_map = m.words({rows, 2}),
                                       .token_offsets = m.words({tokens, top_k}),
                                       .row_experts = m.words({rows})});
           }});
      add({"scatter_add", fmt::format("30B-A3B, {} tokens", tokens), 4.0 * (rows + tokens) * hidden,
           0, [=, this](Memory& m) {
             return scatter_add(caps_, {.expert_outputs = m.f32({rows, hidden}),
                                        .weights = m.f32({tokens, top_k}),
                                        .output = m.f32({tokens, hidden}),
                                        .token_offsets = m.ids(rows, rows).as({tokens, top_k})});
           }});
    }
  }

  const gpu::Caps& caps_;
};

// Microseconds of the work: the median of runs.
double time_work(gpu::Device& device, const gpu::Work& work) {
  const gpu::Recording recording = device.record(work);
  device.warm_up(recording);
  double us = 0;
  for (double each : device.time(recording, 15)) us += each;
  return us;
}

// Throws Error when a row of the kernel does not match its twin.
void check_rows(gpu::Device& device, std::string_view kernel) {
  for (const Migrated& row : migration())
    if (row.kernel == kernel)
      run_cases(device, row, false,
                [](Lab& lab, const MigrationCase& c) { lab.check(c.work, c.tolerance); });
}

}  // namespace

void bench_kernels(const GlobalOptions& options, const std::vector<std::string>& names, bool json) {
  require_kernels(names);
  const auto device = gpu::Device::open(device_options(options));
  const gpu::Caps& caps = device->caps();
  if (!caps.timestamps) fail("{} has no timestamps", caps.name);
  const Bandwidth bandwidth = measure_bandwidth(*device);
  const Shapes shapes(caps);

  nlohmann::ordered_json results = nlohmann::ordered_json::array();
  std::vector<std::vector<std::string>> table = {
      {"KERNEL", "SHAPE", "µs", "GB/s", "OF BANDWIDTH", "TFLOP/s"}};
  std::string_view checked;
  Progress progress("timing");
  for (size_t i = 0; i < shapes.all.size(); ++i) {
    const Shape& shape = shapes.all[i];
    if (!names.empty() && std::ranges::find(names, shape.kernel) == names.end()) continue;
    progress(i, shapes.all.size());
    if (checked != shape.kernel) check_rows(*device, checked = shape.kernel);
    Memory memory(*device);
    const double us = time_work(*device, shape.make(memory));
    const double gb_per_s = shape.bytes / us / 1e3, tflop_per_s = shape.flops / us / 1e6;
    results.push_back({{"kernel", shape.kernel},
                       {"shape", shape.what},
                       {"us", us},
                       {"gb_per_s", gb_per_s},
                       {"share_of_bandwidth", gb_per_s / bandwidth.gb_per_s},
                       {"tflop_per_s", tflop_per_s}});
    table.push_back({std::string(shape.kernel), shape.what, fmt::format("{:.1f}", us),
                     fmt::format("{:.1f}", gb_per_s),
                     fmt::format("{:.0f} %", 100 * gb_per_s / bandwidth.gb_per_s),
                     shape.flops ? fmt::format("{:.2f}", tflop_per_s) : ""});
  }
  progress.clear();
  if (json) {
    const nlohmann::ordered_json report{{"device", caps.name},
                                        {"driver", caps.driver},
                                        {"variant", to_string(caps.variant)},
                                        {"robust", caps.robust},
                                        {"bandwidth_gb_per_s", bandwidth.gb_per_s},
                                        {"bandwidth_measured_by", bandwidth.how},
                                        {"kernels", results}};
    fmt::print("{}\n", report.dump(2));
    return;
  }
  print_table(table);
  fmt::print("\n{}, {}, {}, {} bounds checks; bandwidth: {:.1f} GB/s, {}\n", caps.name, caps.driver,
             to_string(caps.variant), caps.robust ? "with" : "without", bandwidth.gb_per_s,
             bandwidth.how);
}

}  // namespace ms
