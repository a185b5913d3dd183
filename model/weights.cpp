// weights.cpp: packing and uploading tensors in chunks of rows.
#include "model/weights.hpp"

#include <algorithm>
#include <cstring>
#include <random>

#include "base/quantize.hpp"

namespace ms {

namespace {

std::string text(const std::vector<uint64_t>& shape) {
  std::string s = "[";
  for (uint64_t n : shape) s += fmt::format("{}{}", s.size() > 1 ? ", " : "", n);
  return s + "]";
}

uint64_t tensor_bytes(const TensorInfo& t) {
  const TypeInfo& type = info(t.type);
  return t.rows() * (t.cols() / type.block_size) * type.block_bytes;
}

uint64_t bytes_of(const Catalog& catalog) {
  uint64_t bytes = 0;
  for (const auto& [name, t] : catalog.tensors) bytes += tensor_bytes(t);
  return bytes;
}

// Of packed rows that are on their way at a time: of a small model little, for it must be cleared.
uint64_t piece_bytes(uint64_t all) { return std::clamp<uint64_t>(8 * all, 1 << 20, 16 << 20); }

}  // namespace

Catalog Catalog::of(const ModelFile& file) {
  Catalog catalog{.source = file.path().string(), .tensors = {}};
  for (const TensorInfo& t : file.tensors()) catalog.tensors.emplace(t.name, t);
  return catalog;
}

Catalog Catalog::synthetic(const Config& c, std::string_view name, bool tied) {
  const bool mixed = name == "q4_k_m" || name == "q5_k_m";
  const auto known = type_by_name(mixed ? name.substr(0, 4) : name);
  if (!known || !weight_type(*known)) {
    std::string all;
    for (const WeightType type : weight_types()) all += fmt::format("{}, ", to_string(type));
    throw std::invalid_argument(fmt::format(
        "no synthetic weights of type \"{}\": there are {}q4_k_m and q5_k_m", name, all));
  }
  const TensorType type = *known, better = mixed ? TensorType::q6_k : type;
  Catalog catalog{.source = fmt::format("synthetic {} {}", c.name, name), .tensors = {}};
  const auto add = [&](const std::string& tensor, TensorType t, std::vector<uint64_t> shape) {
    const auto added =
        catalog.tensors
            .emplace(tensor,
                     TensorInfo{.name = {}, .type = t, .shape = std::move(shape), .data = {}})
            .first;
    added->second.name = added->first;
  };
  add("token_embd.weight", tied ? better : type, {c.vocab, c.dim});
  if (!tied) add("output.weight", better, {c.vocab, c.dim});
  add("output_norm.weight", TensorType::f32, {c.dim});
  for (uint32_t layer = 0; layer < c.layers; ++layer) {
    const std::string blk = fmt::format("blk.{}.", layer);
    const uint32_t eighth = c.layers / 8;
    const TensorType some =
        layer < eighth || layer >= 7 * c.layers / 8 || (layer - eighth) % 3 == 2 ? better : type;
    add(blk + "attn_norm.weight", TensorType::f32, {c.dim});
    add(blk + "attn_q.weight", type, {c.q_size(), c.dim});
    add(blk + "attn_k.weight", type, {c.kv_size(), c.dim});
    add(blk + "attn_v.weight", some, {c.kv_size(), c.dim});
    add(blk + "attn_output.weight", type, {c.dim, c.q_size()});
    add(blk + "ffn_norm.weight", TensorType::f32, {c.dim});
    if (c.experts) {
      add(blk + "ffn_gate_inp.weight", TensorType::f32, {c.experts, c.dim});
      add(blk + "ffn_gate_exps.weight", type, {c.experts, c.ffn, c.dim});
      add(blk + "ffn_up_exps.weight", type, {c.experts, c.ffn, c.dim});
      add(blk + "ffn_down_exps.weight", some, {c.experts, c.dim, c.ffn});
      continue;
    }
    add(blk + "ffn_gate.weight", type, {c.ffn, c.dim});
    add(blk + "ffn_up.weight", type, {c.ffn, c.dim});
    add(blk + "ffn_down.weight", some, {c.dim, c.ffn});
  }
  return catalog;
}

const TensorInfo* Catalog::find(std::string_view name) const {
  const auto found = tensors.find(name);
  return found == tensors.end() ? nullptr : &found->second;
}

const TensorInfo& Catalog::get(const std::string& name, std::vector<uint64_t> shape) const {
  const TensorInfo* t = find(name);
  if (!t) fail("{}: there is no tensor {}", source, name);
  if (t->shape != shape)
    fail("{}: tensor {} is {}, the model's numbers say {}", source, name, text(t->shape),
         text(shape));
  return *t;
}

WeightLoader::WeightLoader(gpu::Device& device, const Catalog& catalog, uint32_t row_tile,
                           std::function<void(uint64_t, uint64_t)> progress)
    : device_(device),
      catalog_(catalog),
      row_tile_(row_tile),
      progress_(std::move(progress)),
      all_(bytes_of(catalog)),
      uploads_(device, piece_bytes(all_)) {}

gpu::Buffer& WeightLoader::place(uint64_t bytes, std::string_view name) {
  memory_.push_back(device_.buffer(bytes, std::string(name)));
  packed_bytes_ += bytes;
  return *memory_.back();
}

namespace {

uint64_t as_far_as_the_next(uint64_t bytes) { return (bytes + 255) / 256 * 256; }
uint64_t vector_bytes(uint64_t elements) { return as_far_as_the_next(4 * elements); }

}  // namespace

std::pair<uint64_t, uint64_t> WeightLoader::layer_size(uint32_t layer) const {
  std::pair<uint64_t, uint64_t> size;
  const std::string prefix = fmt::format("blk.{}.", layer);
  for (auto at = catalog_.tensors.lower_bound(prefix);
       at != catalog_.tensors.end() && at->first.starts_with(prefix); ++at) {
    const TensorInfo& tensor = at->second;
    if (tensor.shape.size() < 2) {
      size.second += vector_bytes(tensor.elements());
      continue;
    }
    if (!weight_type(tensor.type)) continue;
    const auto [quants, scales] = packed_size(tensor, tensor.rows());
    size.first += quants;
    size.second += scales;
  }
  return size;
}

void WeightLoader::begin_layer(uint32_t layer) {
  if (const auto [quants, scales] = layer_size(layer); layers_.holds(quants, scales)) return;
  const gpu::Caps& caps = device_.caps();
  const uint64_t most = std::min(caps.max_binding_bytes, caps.max_buffer_bytes);
  uint64_t all_quants = 0, all_scales = 0;
  for (;; ++layer) {
    const auto [quants, scales] = layer_size(layer);
    if (quants == 0 || all_quants + quants > most || all_scales + scales > most) break;
    all_quants += quants;
    all_scales += scales;
  }
  layers_ = {};
  if (all_quants) layers_.quants = &place(all_quants, "layers");
  if (all_scales) layers_.scales = &place(all_scales, "layers' scales");
}

WeightLoader::Room WeightLoader::room(uint64_t quants, uint64_t scales, const TensorInfo& tensor) {
  if (layers_.holds(quants, scales)) {
    const Room own = layers_;
    if (quants) own.quants->parts.emplace(own.quants_used, tensor.name);
    if (scales) own.scales->parts.emplace(own.scales_used, tensor.name);
    layers_.quants_used += quants;
    layers_.scales_used += scales;
    return own;
  }
  return {.quants = quants ? &place(quants, tensor.name) : nullptr,
          .scales = scales ? &place(scales, tensor.name) : nullptr};
}

std::pair<uint64_t, uint64_t> WeightLoader::packed_size(const TensorInfo& like,
                                                        uint64_t rows) const {
  const auto type = weight_type(like.type);
  if (!type)
    fail("{}: tensor {} is of type {}, which has no kernels yet", catalog_.source, like.name,
         info(like.type).name);
  return {as_far_as_the_next(4 * quant_words(*type, rows, like.cols(), row_tile_)),
          as_far_as_the_next(4 * scale_words(*type, rows, like.cols(), row_tile_))};
}

Weight WeightLoader::pack(const TensorInfo& like, uint64_t rows,
                          std::function<std::pair<const TensorInfo*, uint64_t>(uint64_t)> source,
                          Room& room) {
  const WeightType type = weight_type(like.type).value();
  const uint32_t tile = row_tile_;
  const uint64_t cols = like.cols(), tiles = (rows + tile - 1) / tile,
                 q = quant_words(type, tile, cols, tile), s = scale_words(type, tile, cols, tile);
  Weight weight{.type = type,
                .rows = uint32_t(rows),
                .cols = uint32_t(cols),
                .quants = {.buffer = room.quants,
                           .offset = room.quants_used,
                           .shape = {tiles * q},
                           .type = gpu::Type::u32},
                .row_tile = tile};
  if (s)
    weight.scales = {.buffer = room.scales,
                     .offset = room.scales_used,
                     .shape = {tiles * s},
                     .type = gpu::Type::u32};

  require(4 * (q + s) <= uploads_.piece_bytes(), "{}: {} rows of {} columns are too many bytes",
          like.name, tile, cols);
  pending_.push_back([=, this, &like, room = room, source = std::move(source)] {
    send_rows(like, rows, source, room);
  });
  const auto [quants, scales] = packed_size(like, rows);
  room.quants_used += quants;
  room.scales_used += scales;
  return weight;
}

void WeightLoader::send() {
  for (const auto& rows : std::exchange(pending_, {})) rows();
  device_.finish();
}

void WeightLoader::send_rows(
    const TensorInfo& like, uint64_t rows,
    const std::function<std::pair<const TensorInfo*, uint64_t>(uint64_t)>& source,
    const Room& room) {
  const WeightType type = weight_type(like.type).value();
  const uint32_t tile = row_tile_;
  const uint64_t cols = like.cols(), tiles = (rows + tile - 1) / tile,
                 q = quant_words(type, tile, cols, tile), s = scale_words(type, tile, cols, tile);
  const uint64_t file_row = cols / info(like.type).block_size * info(like.type).block_bytes;
  const uint64_t step = std::min(tiles, uploads_.piece_bytes() / (4 * (q + s)));
  const bool random = like.data.empty();
  std::vector<std::byte> random_rows;  // the same in every step
  if (random) {
    std::mt19937 rng(1);
    random_rows =
        random_blocks(like.type, step * tile * (cols / info(like.type).block_size), 0.05f, rng);
  }
  // Tiles `from` to `end` - 1 of a step, which begins at tile `first`: packed in a cache's reach,
  // and then copied, for what is shared with the device may be slow to read.
  const auto pack_some = [&](uint64_t first, uint64_t from, uint64_t end, std::byte* to_quants,
                             std::byte* to_scales) {
    thread_local std::vector<uint32_t> packed;
    packed.assign((end - from) * (q + s), 0);
    const auto all_quants = std::span(packed).first((end - from) * q),
               all_scales = std::span(packed).subspan((end - from) * q);
    for (uint64_t i = from; i < end; ++i) {
      const uint64_t row = (first + i) * tile;
      for (uint64_t r = 0; r < std::min<uint64_t>(tile, rows - row); ++r) {
        const auto [tensor, at] = random ? std::pair(&like, i * tile + r) : source(row + r);
        const std::span<const std::byte> data = random ? random_rows : tensor->data;
        pack_row(type, r, cols, data.subspan(at * file_row, file_row),
                 all_quants.subspan((i - from) * q, q), all_scales.subspan((i - from) * s, s),
                 tile);
      }
    }
    std::memcpy(to_quants + 4 * from * q, all_quants.data(), all_quants.size_bytes());
    if (s) std::memcpy(to_scales + 4 * from * s, all_scales.data(), all_scales.size_bytes());
  };
  const uint64_t some = std::max<uint64_t>(1, (64 << 10) / (4 * (q + s)));  // tiles
  for (uint64_t first = 0; first < tiles; first += step) {
    const uint64_t count = std::min(step, tiles - first), quant_bytes = 4 * count * q;
    std::byte* const memory = uploads_.room(4 * count * (q + s)).data();
    pool_.parallel_for((count + some - 1) / some, [&](size_t i) {
      pack_some(first, i * some, std::min(count, (i + 1) * some), memory, memory + quant_bytes);
    });
    std::vector<gpu::Uploads::Part> parts = {
        {0, room.quants, room.quants_used + first * q * 4, quant_bytes}};
    if (s)
      parts.push_back({quant_bytes, room.scales, room.scales_used + first * s * 4, 4 * count * s});
    uploads_.send(parts);
    done_ += std::min(count * tile, rows - first * tile) * file_row;
    if (progress_) progress_(done_, all_);
  }
}

std::vector<Weight> WeightLoader::stack_runs(const std::vector<const TensorInfo*>& matrices) {
  struct Run {
    std::vector<const TensorInfo*> tensors;
    uint64_t rows = 0;
  };
  std::vector<Run> runs;
  for (const TensorInfo* t : matrices) {
    used_.insert(t->name);
    require(t->cols() == matrices.front()->cols(), "stack: tensors of different widths");
    if (runs.empty() || runs.back().tensors.back()->type != t->type) runs.emplace_back();
    runs.back().tensors.push_back(t);
    runs.back().rows += t->rows();
  }
  uint64_t quants = 0, scales = 0;
  for (const Run& run : runs) {
    const auto [q, s] = packed_size(*run.tensors.front(), run.rows);
    quants += q;
    scales += s;
  }
  Room all = room(quants, scales, *matrices.front());
  std::vector<Weight> weights;
  for (const Run& run : runs)
    weights.push_back(pack(
        *run.tensors.front(), run.rows,
        [tensors = run.tensors](uint64_t row) {
          for (const TensorInfo* t : tensors) {
            if (row < t->rows()) return std::pair(t, row);
            row -= t->rows();
          }
          return std::pair(tensors.back(), row);
        },
        all));
  return weights;
}

Weight WeightLoader::stack(const std::vector<const TensorInfo*>& matrices) {
  const std::vector<Weight> runs = stack_runs(matrices);
  require(runs.size() == 1, "stack: tensors of different types");
  return runs.front();
}

Weight WeightLoader::interleave(const TensorInfo& even, const TensorInfo& odd) {
  require(even.type == odd.type && even.shape == odd.shape,
          "interleave: tensors of different types or shapes");
  used_.insert({even.name, odd.name});
  const auto [quants, scales] = packed_size(even, 2 * even.rows());
  Room own = room(quants, scales, even);
  return pack(
      even, 2 * even.rows(),
      [&even, &odd](uint64_t row) { return std::pair(row % 2 ? &odd : &even, row / 2); }, own);
}

gpu::View WeightLoader::vector(const std::vector<const TensorInfo*>& vectors) {
  std::vector<float> values;
  for (const TensorInfo* t : vectors) {
    used_.insert(t->name);
    if (!can_decode(t->type))
      fail("{}: tensor {} is of type {}, which is not supported", catalog_.source, t->name,
           info(t->type).name);
    const size_t first = values.size();
    values.resize(first + t->elements(), 1.0f);
    if (!t->data.empty()) decode(t->type, t->data, std::span(values).subspan(first));
    done_ += tensor_bytes(*t);
  }
  const Room own = room(0, vector_bytes(values.size()), *vectors.front());
  device_.write(*own.scales, own.scales_used, std::as_bytes(std::span(values)));
  return {.buffer = own.scales, .offset = own.scales_used, .shape = {values.size()}};
}

void WeightLoader::require_all_used() const {
  for (const auto& [name, t] : catalog_.tensors) {
    const bool repeats = name.starts_with("rope_freqs") || name.find("rot_embd") != name.npos;
    if (!used_.contains(name) && !repeats)
      fail(
          "{}: tensor {} is none that this architecture has here; without it the model would "
          "answer, but not as it was made to",
          catalog_.source, name);
  }
}

const TensorInfo* LayerLoader::get(std::string_view name, std::vector<uint64_t> shape) {
  return &catalog_.get(fmt::format("blk.{}.{}", layer_, name), std::move(shape));
}

gpu::View LayerLoader::vector(std::string_view name, uint64_t size) {
  return loader_.vector({get(name, {size})});
}

Weight LayerLoader::matrix(std::string_view name, std::vector<uint64_t> shape) {
  return loader_.stack({get(name, std::move(shape))});
}

Linear LayerLoader::qkv() {
  const uint64_t q = config_.q_size(), kv = config_.kv_size(), dim = config_.dim;
  Linear all;
  uint32_t row = 0;
  for (const Weight& weight :
       loader_.stack_runs({get("attn_q.weight", {q, dim}), get("attn_k.weight", {kv, dim}),
                           get("attn_v.weight", {kv, dim})})) {
    all.parts.push_back({weight, row});
    row += weight.rows;
  }
  if (config_.qkv_bias || catalog_.find(fmt::format("blk.{}.attn_q.bias", layer_)))
    all.bias = loader_.vector(
        {get("attn_q.bias", {q}), get("attn_k.bias", {kv}), get("attn_v.bias", {kv})});
  return all;
}

gpu::View LayerLoader::qk_norms() {
  const uint64_t dim = config_.head_dim;
  return loader_.vector({get("attn_q_norm.weight", {dim}), get("attn_k_norm.weight", {dim})})
      .as({2, dim});
}

GatedFfn LayerLoader::gated_ffn() {
  const auto get_ffn = [&](std::string_view name, uint64_t rows, uint64_t cols) {
    return config_.experts ? get(fmt::format("{}_exps.weight", name), {config_.experts, rows, cols})
                           : get(fmt::format("{}.weight", name), {rows, cols});
  };
  const TensorInfo* gate = get_ffn("ffn_gate", config_.ffn, config_.dim);
  const TensorInfo* up = get_ffn("ffn_up", config_.ffn, config_.dim);
  GatedFfn ffn{.gate_up = {}, .interleaved = gate->type == up->type, .down = {}};
  if (ffn.interleaved)
    ffn.gate_up.parts = {{loader_.interleave(*gate, *up), 0}};
  else
    ffn.gate_up.parts = {{loader_.stack({gate}), 0}, {loader_.stack({up}), config_.ffn}};
  ffn.down = loader_.stack({get_ffn("ffn_down", config_.dim, config_.ffn)});
  return ffn;
}

}  // namespace ms
