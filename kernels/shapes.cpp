// shapes.cpp: extents of Llama-3 8B, Llama-3.2 1B and Qwen3-30B-A3B, kernel by kernel.
#include "kernels/shapes.hpp"

#include "base/quantize.hpp"
#include "kernels/slot.hpp"

namespace ms {

gpu::View Tensors::filled(gpu::Shape shape, gpu::Type type, Fill fill) {
  memory_.push_back(device_.buffer(shape.size() * bytes_of(type), "bench"));
  std::vector<uint32_t> pattern(1 << 18);
  std::mt19937 rng(1);
  for (uint32_t& word : pattern) {
    word = rng();
    if (fill == Fill::halves) word = 0x28002800u | (word & 0x03ff03ff);
    if (fill == Fill::floats) word = std::bit_cast<uint32_t>(float(int32_t(word)) / 2147483648.0f);
  }
  const auto bytes = std::as_bytes(std::span(pattern));
  for (uint64_t at = 0; at < memory_.back()->bytes; at += bytes.size())
    device_.write(*memory_.back(), at,
                  bytes.first(std::min<uint64_t>(bytes.size(), memory_.back()->bytes - at)));
  return gpu::view(memory_.back(), shape, type);
}

gpu::View Tensors::f32(gpu::Shape shape, float size) {
  return lab_ ? lab_->random(shape, -size, size) : filled(shape, gpu::Type::f32, Fill::floats);
}

gpu::View Tensors::f16(gpu::Shape shape) {
  return lab_ ? lab_->random_f16(shape) : filled(shape, gpu::Type::f16, Fill::halves);
}

gpu::View Tensors::bits(gpu::Shape shape) { return filled(shape, gpu::Type::u32, Fill::any); }

gpu::View Tensors::ids(gpu::Shape shape, uint32_t below) {
  std::vector<uint32_t> data(shape.size());
  for (size_t i = 0; i < data.size(); ++i) data[i] = uint32_t(i * 7919ull % below);
  const gpu::View view = bits(shape);
  device_.write(*view.buffer, 0, std::as_bytes(std::span(data)));
  return view;
}

Weight Tensors::weight(WeightType type, uint32_t rows, uint32_t cols, uint32_t row_tile) {
  const uint32_t tile = row_tile ? row_tile : choose_row_tile(device_.caps());
  if (lab_) return lab_->weight(type, rows, cols, tile);
  Weight w{.type = type, .rows = rows, .cols = cols, .row_tile = tile};
  w.quants = filled({quant_words(type, rows, cols, tile)}, gpu::Type::u32, Fill::halves);
  if (const uint64_t n = scale_words(type, rows, cols, tile))
    w.scales = filled({n}, gpu::Type::u32, Fill::halves);
  return w;
}

gpu::View Tensors::blocks(TensorType type, uint32_t elements) {
  const gpu::Shape words{(uint64_t(elements) / info(type).block_size * info(type).block_bytes + 3) /
                         4};
  if (!lab_) return filled(words, gpu::Type::u32, Fill::halves);
  auto bytes = quantize(type, lab_->read(lab_->random({elements})));
  bytes.resize(4 * words.size());
  return lab_->upload(words, gpu::Type::u32, bytes);
}

gpu::View Tensors::zeros(gpu::Shape shape) {
  if (lab_) return lab_->words(shape, [](size_t) { return 0; });
  memory_.push_back(device_.buffer(4 * shape.size(), "bench"));
  return gpu::view(memory_.back(), shape, gpu::Type::u32);
}

gpu::View Tensors::scratch(gpu::Shape shape) { return lab_ ? lab_->zeros(shape) : zeros(shape); }

KvCache Tensors::cache(KvType type, uint32_t rows, uint32_t kv_heads, uint32_t head_dim) {
  if (lab_) return lab_->cache(type, rows, kv_heads, head_dim, 1);
  const auto tensor = [&] {
    return filled(kv_shape(type, rows, kv_heads, head_dim), element_type(type),
                  type == KvType::f32 ? Fill::floats : Fill::halves);
  };
  const gpu::View k = tensor();
  return {.k = k, .v = tensor()};
}

AttentionParts Tensors::parts(uint32_t rows, uint32_t heads, uint32_t head_dim, uint32_t splits,
                              bool f16) {
  if (lab_) return lab_->parts(rows, heads, head_dim, splits, f16);
  AttentionParts parts{
      .rows = rows, .heads = heads, .head_dim = head_dim, .splits = splits, .f16 = f16};
  parts.words = filled({parts.size()}, gpu::Type::u32, Fill::halves);
  return parts;
}

gpu::View Tensors::words(gpu::Shape shape, std::span<const std::byte> bytes) {
  if (lab_) return lab_->upload(shape, gpu::Type::u32, bytes);
  const gpu::View view = bits(shape);
  device_.write(*view.buffer, view.offset, bytes);
  return view;
}

gpu::View Tensors::slot_at(uint32_t position) {
  if (lab_) return lab_->slots({position});
  const Slot slot{.position = position, .stopped = Stopped::running};
  return words({1, sizeof slot / 4}, std::as_bytes(std::span(&slot, 1)));
}

gpu::View Tensors::out(gpu::Shape shape, gpu::Type type) {
  return lab_ ? lab_->output(shape, type) : filled(shape, type, Fill::any);
}

namespace {

#define WRAPPER(name) [](const auto&... a) { return name(a...); }

using Make = std::function<gpu::Work(Tensors&)>;

std::string counted(uint32_t n, std::string_view what) {
  return fmt::format("{} {}{}", n, what, n == 1 ? "" : "s");
}

// Sums of so many terms in f32.
Tolerance sums(uint32_t terms) { return {.abs = 2e-6 * std::sqrt(terms), .rel = 2e-5}; }

class Shapes {
 public:
  explicit Shapes(const gpu::Caps& caps) : caps_(caps) {
    products();
    experts();
    elementwise();
    rows();
    attention();
    std::ranges::stable_sort(all, {}, &ModelShape::kernel);
  }
  std::vector<ModelShape> all;

 private:
  struct Matrix {
    const char* what;
    uint32_t rows, cols;
  };
  static constexpr WeightType types[] = {WeightType::f16, WeightType::q8_0, WeightType::q4_0,
                                         WeightType::q4_k, WeightType::q6_k};

  uint32_t scaled(uint32_t n) const { return caps_.cpu ? std::max(n / 64, 8u) : n; }
  static double bytes(WeightType type, double rows, uint32_t cols) {
    return 4 * rows * double(quant_words(type, 1, cols) + scale_words(type, 1, cols));
  }

  // A vector times a weight, or with experts as many rows of x as there are `pairs` of a token and
  // an expert, each times its own expert's part of the weight.
  void gemv(std::string_view kernel, Matrix m, WeightType type, uint32_t pairs = 0) {
    m.rows = scaled(m.rows);
    const uint32_t count = pairs ? 128 : 1, read = pairs ? std::min(pairs, count) : 1;
    const float size = 2 / std::sqrt(float(m.cols));  // for products of order 1
    ModelShape shape{.kernel = kernel,
                     .what = fmt::format("{} [{}, {}] {}", m.what, m.rows, m.cols, to_string(type)),
                     .bytes = read * bytes(type, m.rows, m.cols),
                     .flops = 2.0 * std::max(1u, pairs) * m.rows * m.cols,
                     .tolerance = sums(m.cols)};
    if (pairs) shape.what += fmt::format(", {} rows to {} experts", pairs, count);
    if (kernel == "fused_ffn") {
      shape.tolerance = {1e-5, 5e-5};
      shape.make = [=](Tensors& t) {
        const uint32_t experts = t.few(count, 16), rows = t.few(m.rows, pairs ? 40 : 192),
                       n = std::max(1u, pairs);
        FusedFfn args{.x = t.f32({n, m.cols}, size),
                      .weight = t.weight(type, experts * rows, m.cols),
                      .y = t.out({n, rows / 2})};
        if (!pairs) args.norm = t.f32({m.cols}, size);
        if (pairs) args.experts = t.ids({n}, experts), args.num_experts = experts;
        return t.run(WRAPPER(fused_ffn), args);
      };
    } else if (kernel == "matmul_gemv_residual") {
      shape.make = [=](Tensors& t) {
        const uint32_t rows = t.few(m.rows, 192);
        return t.run(WRAPPER(matmul_gemv_residual),
                     MatmulGemvResidual{.x = t.f32({1, m.cols}),
                                        .weight = t.weight(type, rows, m.cols),
                                        .residual = t.f32({1, rows}),
                                        .y = t.out({1, rows})});
      };
    } else {
      shape.make = [=](Tensors& t) {
        const uint32_t experts = t.few(count, 16), rows = t.few(m.rows, pairs ? 40 : 192),
                       n = std::max(1u, pairs);
        MatmulGemv args{.x = t.f32({n, m.cols}),
                        .weight = t.weight(type, experts * rows, m.cols),
                        .y = t.out({n, rows})};
        if (pairs) args.experts = t.ids({n}, experts), args.num_experts = experts;
        return t.run(WRAPPER(matmul_gemv), args);
      };
    }
    all.push_back(std::move(shape));
  }

  void fused_layer_of(std::string_view what, uint32_t dim, uint32_t ffn, uint32_t qkv_rows) {
    if (caps_.max_storage_buffers < FusedLayer::storage_buffers) return;
    const double weights = double(dim) * dim + 3.0 * ffn * dim + double(qkv_rows) * dim;
    all.push_back(
        {.kernel = "fused_layer",
         .what = fmt::format("{} {}, {}, {} f16", what, dim, ffn, qkv_rows),
         .bytes = weights * 2,
         .flops = 2 * weights,
         .tolerance = {.abs = 0.02, .rel = 1e-3},
         .make = [=](Tensors& t) {
           const uint32_t n = t.few(dim, 256), m = t.few(ffn, 448), rows = t.few(qkv_rows, 192);
           // Of one buffer, cut into rows of 64; and of another, the norms.
           const Weight all = t.weight(WeightType::f16, (n * n + 3 * m * n + rows * n) / 64, 64, 1);
           auto weight = [&, first = uint64_t(0)](uint32_t r, uint32_t c) mutable {
             const uint64_t words = uint64_t(r) * c / 2, at = std::exchange(first, first + words);
             return Weight{
                 .type = all.type, .rows = r, .cols = c, .quants = all.quants.slice(at, {words})};
           };
           const gpu::View norms = t.f32({2, n}, 0.1f);
           FusedLayer::Layer layer{.ffn_norm = norms.slice(0, {n}),
                                   .output = weight(n, n),
                                   .gate_up = weight(2 * m, n),
                                   .down = weight(n, m)},
               next{.attn_norm = norms.slice(n, {n}), .qkv = weight(rows, n)};
           const FusedLayer::Places places[] = {FusedLayer::place(layer), FusedLayer::place(next)};
           return t.run(
               WRAPPER(fused_layer),
               FusedLayer{.attended = t.f32({1, n}),
                          .x = t.f32({1, n}),
                          .layers = {layer},
                          .next = next,
                          .places = t.words({2, 16}, std::as_bytes(std::span(places))),
                          .qkv = t.out({1, rows}),
                          .exchange = t.scratch({FusedLayer::exchange_words(n, m, 0, 0, 0)}),
                          .slots = t.slot_at(0),
                          .alpha = 0.05f});
         }});
  }

  void products() {
    for (const Matrix& m :
         {Matrix{"large", 65536, 8192}, {"square", 8192, 8192}, {"8B gate and up", 28672, 4096}})
      gemv("matmul_gemv", m, WeightType::f16);
    for (const WeightType type : types) {
      for (const Matrix& m : {Matrix{"8B q, k and v", 6144, 4096},
                              {"8B head", 128256, 4096},
                              {"1B q, k and v", 3072, 2048},
                              {"1B head", 128256, 2048}})
        gemv("matmul_gemv", m, type);
      for (const Matrix& m : {Matrix{"8B output", 4096, 4096},
                              {"8B down", 4096, 14336},
                              {"1B output", 2048, 2048},
                              {"1B down", 2048, 8192}})
        gemv("matmul_gemv_residual", m, type);
      for (const Matrix& m :
           {Matrix{"8B gate and up", 28672, 4096}, {"1B gate and up", 16384, 2048}})
        gemv("fused_ffn", m, type);
    }
    fused_layer_of("8B", caps_.cpu ? 512 : 4096, caps_.cpu ? 1792 : 14336, caps_.cpu ? 768 : 6144);
    fused_layer_of("1B", caps_.cpu ? 256 : 2048, caps_.cpu ? 1024 : 8192, caps_.cpu ? 384 : 3072);
    for (Matrix m : {Matrix{"8B q, k and v", 6144, 4096},
                     {"8B gate and up", 28672, 4096},
                     {"1B gate and up", 16384, 2048}}) {
      m.rows = scaled(m.rows);
      all.push_back({.kernel = "fused_matmul_q4",
                     .what = fmt::format("{} [{}, {}]", m.what, m.rows, m.cols),
                     .bytes = m.rows * (m.cols / 256.0) * 144,
                     .flops = 2.0 * m.rows * m.cols,
                     .tolerance = sums(m.cols),
                     .make = [=](Tensors& t) {
                       const uint32_t rows = t.few(m.rows, 192);
                       return t.run(WRAPPER(fused_matmul_q4),
                                    FusedMatmulQ4{.a = t.f32({1, m.cols}),
                                                  .b = t.blocks(TensorType::q4_k, rows * m.cols),
                                                  .c = t.out({1, rows})});
                     }});
    }
    for (const uint32_t columns : {2048u, 4096u}) {
      const uint32_t n = scaled(columns);
      all.push_back({.kernel = "fused_matmul_rmsnorm",
                     .what = fmt::format("[{}, 4096]", n),
                     .bytes = 4.0 * n * 4096,
                     .flops = 2.0 * n * 4096,
                     .tolerance = {.abs = 2e-6 * 64, .rel = 5e-5},
                     .make = [=](Tensors& t) {
                       return fused_matmul_rmsnorm(t.caps(), {.x = t.f32({1, 4096}),
                                                              .weight = t.f32({n, 4096}),
                                                              .norm_weight = t.f32({n}),
                                                              .y = t.out({1, n}),
                                                              .transpose_b = true});
                     }});
    }
    const uint32_t tokens = caps_.cpu ? 64 : 512;
    for (const WeightType type : {WeightType::f16, WeightType::q8_0, WeightType::q4_0})
      for (Matrix m : {Matrix{"8B q, k and v", 6144, 4096},
                       {"8B gate and up", 28672, 4096},
                       {"8B down", 4096, 14336},
                       {"1B gate and up", 16384, 2048},
                       {"1B down", 2048, 8192}}) {
        m.rows = scaled(m.rows);
        all.push_back({.kernel = "matmul",
                       .what = fmt::format("{} [{}, {}] {}, {} tokens", m.what, m.rows, m.cols,
                                           to_string(type), tokens),
                       .bytes = bytes(type, m.rows, m.cols) + 4.0 * tokens * (m.rows + m.cols),
                       .flops = 2.0 * tokens * m.rows * m.cols,
                       .arithmetic = true,
                       .tolerance = caps_.variant.matrix  // which of two f16 a weight becomes
                                        ? Tolerance{1e-4 * std::sqrt(m.cols), 1e-4}
                                        : sums(m.cols),
                       .make = [=](Tensors& t) {
                         const uint32_t rows = t.few(m.rows, 100), n = t.few(tokens, 20);
                         return t.run(WRAPPER(matmul), Matmul{.a = t.f32({n, m.cols}),
                                                              .b = t.weight(type, rows, m.cols),
                                                              .c = t.out({n, rows})});
                       }});
      }
  }

  // A layer of Qwen3-30B-A3B: rows of 2048, 128 experts of 768, 8 a token.
  void experts() {
    const uint32_t experts = 128, top_k = 8, hidden = 2048;
    gemv("matmul_gemv", {"30B-A3B router", experts, hidden}, WeightType::f32);
    for (const WeightType type : types)
      for (const uint32_t tokens : {1u, 16u}) {
        gemv("fused_ffn", {"30B-A3B gate and up", 1536, hidden}, type, tokens * top_k);
        gemv("matmul_gemv", {"30B-A3B down", hidden, 768}, type, tokens * top_k);
      }
    for (const uint32_t tokens : {1u, caps_.cpu ? 16u : 512u}) {
      const uint32_t rows = tokens * top_k;
      const std::string what = "30B-A3B, " + counted(tokens, "token");
      all.push_back({.kernel = "topk",
                     .what = what,
                     .bytes = 4.0 * tokens * (experts + 2 * top_k),
                     .make = [=](Tensors& t) {
                       const uint32_t n = t.few(tokens, 16);
                       return t.run(WRAPPER(topk),
                                    TopK{.x = t.f32({n, experts}),
                                         .indices = t.out({n, top_k}, gpu::Type::u32),
                                         .weights = t.out({n, top_k}),
                                         .softmax = true,
                                         .normalize = true});
                     }});
      all.push_back({.kernel = "moe_gather",
                     .what = what,
                     .bytes = 4.0 * (rows + tokens) * hidden,
                     .tolerance = exact,
                     .make = [=](Tensors& t) {
                       return moe_gather(t.caps(),
                                         {.hidden = t.f32({tokens, hidden}),
                                          .expert_indices = t.ids({tokens, top_k}, experts),
                                          .gathered = t.out({rows, hidden}),
                                          .token_counts = t.out({experts}, gpu::Type::u32),
                                          .token_map = t.out({rows, 2}, gpu::Type::u32),
                                          .token_offsets = t.out({tokens, top_k}, gpu::Type::u32),
                                          .row_experts = t.out({rows}, gpu::Type::u32)});
                     }});
      all.push_back({.kernel = "scatter_add",
                     .what = what,
                     .bytes = 4.0 * (rows + tokens) * hidden,
                     .make = [=](Tensors& t) {
                       return t.run(WRAPPER(scatter_add),
                                    ScatterAdd{.expert_outputs = t.f32({rows, hidden}),
                                               .weights = t.f32({tokens, top_k}),
                                               .output = t.out({tokens, hidden}),
                                               .token_offsets = t.ids({tokens, top_k}, rows)});
                     }});
    }
  }

  // 512 MiB of each operand, or for a CPU 8.
  void elementwise() {
    const uint32_t cols = 4096, all_rows = scaled(1 << 27) / cols;
    const double size = double(all_rows) * cols;
    // make(t, rows) works on so many rows, or rows * cols elements.
    const auto add = [&](std::string_view kernel, double bytes_each, auto make,
                         Tolerance tolerance = {}, std::string_view what = "") {
      all.push_back({.kernel = kernel,
                     .what = fmt::format("{:.0f} Mi elements{}", size / (1 << 20), what),
                     .bytes = bytes_each * size,
                     .tolerance = tolerance,
                     .make = [=](Tensors& t) { return make(t, t.few(all_rows, 32)); }});
    };
    add("residual", 12, [](Tensors& t, uint32_t rows) {
      const gpu::Shape shape{rows, cols};
      return t.run(WRAPPER(residual),
                   AddResidual{.a = t.f32(shape), .b = t.f32(shape), .y = t.out(shape)});
    });
    add("scale", 8, [](Tensors& t, uint32_t rows) {
      const gpu::Shape shape{rows, cols};
      return t.run(WRAPPER(scale), Scale{.x = t.f32(shape), .y = t.out(shape), .scale = 0.5f});
    });
    add("silu", 12, [](Tensors& t, uint32_t rows) {
      const gpu::Shape shape{rows, cols};
      return t.run(WRAPPER(silu),
                   Silu{.input = t.f32(shape), .gate = t.f32(shape), .y = t.out(shape)});
    });
    add("gelu", 12, [](Tensors& t, uint32_t rows) {
      const gpu::Shape shape{rows, cols};
      return t.run(WRAPPER(gelu),
                   Gelu{.input = t.f32(shape), .gate = t.f32(shape), .y = t.out(shape)});
    });
    add("relu", 8, [](Tensors& t, uint32_t rows) {
      const gpu::Shape shape{rows, cols};
      return t.run(WRAPPER(relu), Relu{.x = t.f32(shape), .y = t.out(shape)});
    });
    add("bias_add", 8, [](Tensors& t, uint32_t rows) {
      return t.run(WRAPPER(bias_add), BiasAdd{.bias = t.f32({cols}), .data = t.f32({rows, cols})});
    });
    add("split_qkv", 8, [](Tensors& t, uint32_t rows) {
      return t.run(WRAPPER(split_qkv), SplitQkv{.qkv = t.f32({rows, cols}),
                                                .q = t.out({rows, cols / 2}),
                                                .cache = {.k = t.out({rows, cols / 4}),
                                                          .v = t.out({rows, cols / 4}),
                                                          .layout = KvLayout::plain},
                                                .head_dim = 128});
    });
    add(
        "split_qkv", 8,
        [](Tensors& t, uint32_t rows) {
          return t.run(WRAPPER(split_qkv), SplitQkv{.qkv = t.f32({rows, cols}),
                                                    .q = t.out({rows, cols / 2}),
                                                    .cache = {.k = t.out({rows, cols / 4}),
                                                              .v = t.out({rows, cols / 4}),
                                                              .layout = KvLayout::plain},
                                                    .head_dim = 128,
                                                    .norms = t.f32({2, 128})});
        },
        {}, ", normed");
    add("fused_swiglu", 12, [](Tensors& t, uint32_t rows) {
      return t.run(WRAPPER(fused_swiglu), FusedSwiglu{.input = t.f32({rows, 2 * cols}),
                                                      .bias = t.f32({2 * cols}),
                                                      .y = t.out({rows, cols})});
    });
    add(
        "cast_f32_to_f16", 6,
        [](Tensors& t, uint32_t rows) {
          const gpu::Shape shape{rows, cols};
          return t.run(WRAPPER(cast_f32_to_f16),
                       CastF32ToF16{.x = t.f32(shape), .y = t.out(shape, gpu::Type::f16)});
        },
        exact);
    add(
        "bf16_to_f32", 6,
        [](Tensors& t, uint32_t rows) {
          return t.run(WRAPPER(bf16_to_f32),
                       Bf16ToF32{.x = t.bits({rows, cols / 2}), .y = t.out({rows, cols})});
        },
        exact);
    add(
        "bf16_to_f16", 4,
        [](Tensors& t, uint32_t rows) {
          return t.run(WRAPPER(bf16_to_f16), Bf16ToF16{.x = t.bits({rows, cols / 2}),
                                                       .y = t.out({rows, cols}, gpu::Type::f16)});
        },
        exact);
    for (const gpu::Type type : {gpu::Type::f16, gpu::Type::f32}) {
      const auto dequant = [&]<class Args>(std::string_view kernel, TensorType from, auto wrapper,
                                           Args) {
        add(
            kernel, bytes_of(type) + double(info(from).block_bytes) / info(from).block_size,
            [=](Tensors& t, uint32_t rows) {
              return t.run(wrapper,
                           Args{.quantized = t.blocks(from, rows * cols),
                                .y = t.out({rows, cols}, type),
                                .num_blocks = rows * cols / uint32_t(info(from).block_size)});
            },
            exact, fmt::format(" to {}", to_string(type)));
      };
      dequant("dequant_q8_0", TensorType::q8_0, WRAPPER(dequant_q8_0), DequantQ80());
      dequant("dequant_q4k", TensorType::q4_k, WRAPPER(dequant_q4k), DequantQ4K());
      dequant("dequant_q6k", TensorType::q6_k, WRAPPER(dequant_q6k), DequantQ6K());
    }
    add(
        "dequant_mxfp4", 4 + 17.0 / 32,
        [](Tensors& t, uint32_t rows) {
          return t.run(WRAPPER(dequant_mxfp4), DequantMxfp4{.blocks = t.bits({rows, cols / 8}),
                                                            .scales = t.bits({rows, cols / 128}),
                                                            .y = t.out({rows, cols})});
        },
        exact);
    for (const WeightType type : {WeightType::f32, WeightType::f16, WeightType::q4_0}) {
      const uint32_t vocab = scaled(32768);
      add(
          "gather", 4 + bytes(type, 1, cols) / cols,
          [=](Tensors& t, uint32_t rows) {
            const uint32_t ids = t.few(vocab, 100);
            return t.run(WRAPPER(gather), Gather{.indices = t.ids({rows}, ids),
                                                 .table = t.weight(type, ids, cols),
                                                 .y = t.out({rows, cols})});
          },
          {}, fmt::format(", rows of {}", to_string(type)));
    }
  }

  void rows() {
    const uint32_t rows = scaled(4096), cols = 4096;
    const auto add = [&](std::string_view kernel, std::string what, double bytes, Make make,
                         Tolerance tolerance = {}) {
      all.push_back({.kernel = kernel,
                     .what = std::move(what),
                     .bytes = bytes,
                     .tolerance = tolerance,
                     .make = std::move(make)});
    };
    const std::string matrix = fmt::format("[{}, {}]", rows, cols);
    add("rmsnorm", matrix, 8.0 * rows * cols, [=](Tensors& t) {
      const gpu::Shape shape{t.few(rows, 256), cols};
      return t.run(WRAPPER(rmsnorm),
                   RmsNorm{.x = t.f32(shape), .weight = t.f32({cols}), .y = t.out(shape)});
    });
    add("layernorm", matrix, 8.0 * rows * cols, [=](Tensors& t) {
      const gpu::Shape shape{t.few(rows, 256), cols};
      return t.run(WRAPPER(layernorm), LayerNorm{.x = t.f32(shape),
                                                 .weight = t.f32({cols}),
                                                 .bias = t.f32({cols}),
                                                 .y = t.out(shape)});
    });
    add("softmax", matrix, 8.0 * rows * cols, [=](Tensors& t) {
      const gpu::Shape shape{t.few(rows, 256), cols};
      return t.run(WRAPPER(softmax), Softmax{.x = t.f32(shape, 8), .y = t.out(shape)});
    });
    add("softmax_log", matrix, 8.0 * rows * cols, [=](Tensors& t) {
      const gpu::Shape shape{t.few(rows, 256), cols};
      return t.run(WRAPPER(softmax_log), SoftmaxLog{.x = t.f32(shape, 8), .y = t.out(shape)});
    });
    const uint32_t tokens = scaled(2048), heads = 32, dim = 128, pairs = dim / 2;
    const std::string turned = fmt::format("[{}, {}, {}]", tokens, heads, dim);
    add("rope_compute", turned, 8.0 * tokens * heads * dim, [=](Tensors& t) {
      return t.run(WRAPPER(rope_compute),
                   RopeCompute{.x = t.f32({t.few(tokens, 256), heads, dim})});
    });
    add("rope_precomputed", turned, 8.0 * tokens * heads * dim, [=](Tensors& t) {
      const uint32_t n = t.few(tokens, 256);
      return t.run(WRAPPER(rope_precomputed), RopePrecomputed{.cos = t.f32({n, pairs}),
                                                              .sin = t.f32({n, pairs}),
                                                              .x = t.f32({n, heads, dim})});
    });
    add("rope_init", fmt::format("[{}, {}]", 64 * tokens, pairs), 8.0 * 64 * tokens * pairs,
        [=](Tensors& t) {
          const uint32_t n = t.few(64 * tokens, 2048);
          return t.run(WRAPPER(rope_init), RopeInit{.freqs = t.bits({pairs, 2}),
                                                    .cos = t.out({n, pairs}),
                                                    .sin = t.out({n, pairs})});
        },
        {3e-7, 0});
    const uint32_t vocab = 128256;
    add(
        "sample_argmax", fmt::format("[1, {}]", vocab), 4.0 * vocab,
        [=](Tensors& t) {
          return sample_argmax(
              t.caps(), {.logits = t.f32({1, vocab}), .sampled = t.out({1}, gpu::Type::u32)});
        },
        exact);
    add("sample_topk", fmt::format("[1, {}], lists of 40", vocab), 4.0 * vocab, [=](Tensors& t) {
      return topk_lists(t.caps(), {.logits = t.f32({1, vocab}),
                                   .topk_indices = t.out({1, 40}, gpu::Type::u32),
                                   .topk_logits = t.out({1, 40})});
    });
    for (const uint32_t streams : {1u, 256u})
      add(
          "check_stop", counted(streams, "stream"), 8.0 * streams,
          [=](Tensors& t) {
            return t.run(WRAPPER(check_stop),
                         CheckStop{.sampled = t.ids({streams}, vocab),
                                   .should_stop = t.out({streams}, gpu::Type::u32),
                                   .eos_token_id = 7919,
                                   .max_tokens = 100});
          },
          exact);
  }

  void attention() {
    struct Heads {
      const char* what;
      uint32_t heads, kv_heads, dim;
      KvType type;
    };
    const Tolerance tolerance{2e-6, 5e-5};
    const uint32_t tokens = caps_.cpu ? 64 : 512;
    for (const auto [what, heads, kv_heads, dim, type] : {Heads{"8B", 32, 8, 128, KvType::f16},
                                                          {"1B", 32, 8, 64, KvType::f16},
                                                          {"8B, q8_0", 32, 8, 128, KvType::q8_0}}) {
      const bool q8 = type == KvType::q8_0;
      const auto cache = [=](Tensors& t, uint32_t keys) {
        return t.cache(type, keys, kv_heads, dim);
      };
      const double key_bytes = 2.0 * kv_shape(type, 1, kv_heads, dim).size() *
                               bytes_of(element_type(type));  // of a key and its value
      for (const uint32_t keys : {scaled(1024), scaled(4096), scaled(65536)})
        all.push_back(
            {.kernel = "attention_decode",
             .what = fmt::format("{}, {} keys", what, keys),
             .bytes = keys * key_bytes,
             .flops = 4.0 * keys * heads * dim,
             .tolerance = tolerance,
             .make = [=](Tensors& t) {
               const uint32_t n = t.few(keys, 2000);
               return t.run(
                   WRAPPER(attention_decode),
                   AttentionDecode{.q = t.f32({1, heads, dim}),
                                   .cache = cache(t, n),
                                   .out = t.out({1, heads, dim}),
                                   .kv_len = n,
                                   .parts = t.zeros({attention_part_words(1, heads, dim, 128)}),
                                   .splits = t.checks() ? 3u : 0u});
             }});
      for (const uint32_t splits : {4u, 16u}) {
        if (q8) continue;  // the same
        all.push_back({.kernel = "attention_combine",
                       .what = fmt::format("{}, {} splits", what, splits),
                       .bytes = heads * dim * (2.0 * splits + 4),
                       .make = [=](Tensors& t) {
                         return t.run(WRAPPER(attention_combine),
                                      AttentionCombine{t.parts(1, heads, dim, splits, true),
                                                       t.out({1, heads, dim})});
                       }});
      }
      // Lanes hold no more than 16 elements of a key.
      const uint32_t held = std::min(dim, 16 * caps_.min_subgroup_size);
      for (const uint32_t keys : {scaled(512), scaled(4096), scaled(65536)})
        if (!q8 || held % 32 == 0)
          all.push_back(
              {.kernel = "fused_attention",
               .what = fmt::format("{}, {} keys of {}", what, keys, held),
               .bytes = keys * key_bytes * held / dim,
               .flops = 4.0 * keys * heads * held,
               .tolerance = f16_storage,  // of the newest key
               .make = [=](Tensors& t) {
                 const uint32_t n = t.few(keys, 2000);
                 FusedAttention args{.qkv = t.f32({1, (heads + (q8 ? 0 : 2 * kv_heads)) * held}),
                                     .heads = heads,
                                     .cache = t.cache(type, n, kv_heads, held),
                                     .slots = t.slot_at(n - 1),
                                     .rope = q8 ? gpu::View{} : t.f32({2, n, held / 2})};
                 args.parts = choose_parts(1, heads, args.cache);
                 gpu::Work work;
                 if (args.parts.splits)
                   args.parts.words = work.add_scratch({args.parts.size()}, gpu::Type::u32);
                 else
                   args.out = t.out({1, heads, held});
                 work.append(t.run(WRAPPER(fused_attention), args));
                 if (args.parts)
                   work.append(attention_combine(
                       t.caps(), {.parts = args.parts, .out = t.out({1, heads, held})}));
                 return work;
               }});
      // make(t, rows, depth): so many queries behind `depth` keys.
      const auto queries = [&](std::string_view kernel, uint32_t all_rows, uint32_t all_depth,
                               auto make) {
        all.push_back(
            {.kernel = kernel,
             .what = fmt::format("{}, {} at depth {}", what, counted(all_rows, "token"), all_depth),
             .bytes = 8.0 * all_rows * heads * dim + (all_depth + all_rows) * key_bytes,
             .flops = 4.0 * all_rows * (all_depth + 0.5 * all_rows) * heads * dim,
             .arithmetic = all_rows > 1,
             .tolerance = kernel == "attention_prefill" && caps_.variant.matrix
                              ? Tolerance{5e-4, 5e-4}  // the weights of keys are f16
                              : tolerance,
             .make = [=](Tensors& t) {
               return make(t, t.few(all_rows, 20), t.few(all_depth, 150));
             }});
      };
      for (const uint32_t depth : {0u, scaled(4096)})
        queries("attention_prefill", tokens, depth,
                [=](Tensors& t, uint32_t rows, uint32_t before) {
                  return t.run(WRAPPER(attention_prefill),
                               AttentionPrefill{.q = t.f32({rows, heads, dim}),
                                                .cache = cache(t, before + rows),
                                                .out = t.out({rows, heads, dim}),
                                                .step = {.start_pos = before},
                                                .kv_len = before + rows});
                });
      for (const uint32_t n : {1u, 16u}) {
        if (q8) continue;  // which it has not
        queries("attention_streaming", n, scaled(4096) - n,
                [=](Tensors& t, uint32_t rows, uint32_t before) {
                  return t.run(WRAPPER(attention_streaming),
                               AttentionStreaming{.q = t.f32({rows, heads, dim}),
                                                  .cache = cache(t, before + rows),
                                                  .out = t.out({rows, heads, dim}),
                                                  .step = {.start_pos = before},
                                                  .kv_len = before + rows});
                });
      }
    }
  }

  const gpu::Caps& caps_;
};

#undef WRAPPER

}  // namespace

std::vector<ModelShape> model_shapes(const gpu::Caps& caps) { return Shapes(caps).all; }

void check_shape(gpu::Device& device, const ModelShape& shape, const gpu::Work& timed) {
  using Pipelines = std::set<std::tuple<std::string_view, std::string_view, gpu::Constants>>;
  const auto pipelines = [](const gpu::Work& work) {
    Pipelines result;
    for (const gpu::Dispatch& d : work.dispatches)
      result.emplace(d.kernel->name, d.entry, d.constants);
    return result;
  };
  Lab lab(device);
  Tensors tensors(lab, timed, shape.kernel);
  const gpu::Work work = shape.make(tensors);
  if (pipelines(work) != pipelines(timed))
    fail("what is checked of {} {} runs {}, what is timed {}", shape.kernel, shape.what,
         to_string(work.dispatches.front()), to_string(timed.dispatches.front()));
  lab.check(work, shape.tolerance);
}

}  // namespace ms
