// matmul_gemv.cpp: the wrapper of matmul_gemv.wgsl, and the choices that the GEMV kernels share.
#include "kernels/matmul_gemv/matmul_gemv.hpp"

#include <algorithm>
#include <bit>

#include "kernels/shared/lane.hpp"

namespace ms {

using gpu::in, gpu::out;

void matmul_gemv_ref(const gpu::HostDispatch& d);
const gpu::Kernel matmul_gemv_kernel =
    gpu::kernel<MatmulGemv>("matmul_gemv", {in, in, in, in, out, in}, matmul_gemv_ref);

namespace {

// Of workgroup memory: what is staged of a block of 32 elements of a vector, and the sums of a
// kernel's subgroups.
constexpr uint32_t block_bytes(bool int16) { return int16 ? 80 : 136; }
uint32_t workgroup_bytes(const GemvShape& s, bool int16) {
  const uint32_t team_sums =
      s.workgroup_size * (s.split > 1 ? std::max(1u, s.rows * s.vectors / 4) : 1);
  return s.vectors * s.chunk * block_bytes(int16) +
         4 * (team_sums + (s.vectors + 1) * (s.workgroup_size / 4 + 1) + 1) + 64;
}

// As many vectors at once as there are and memory has room for, if need be for fewer blocks of
// each, where a workgroup does not stage them again for further rows.
void choose_vectors(const gpu::Caps& caps, bool int16, uint32_t vectors, GemvShape& shape) {
  shape.vectors = std::min(4u, std::bit_ceil(std::max(1u, vectors)));
  while (shape.vectors > 1 && (!shape.refusal(int16).empty() ||
                               workgroup_bytes(shape, int16) > caps.max_workgroup_bytes)) {
    if (shape.chunk > 32 && !shape.groups)
      shape.chunk /= 2;
    else
      shape.vectors /= 2;
  }
}

}  // namespace

GemvChoice choose_gemv(const gpu::Caps& caps, std::string_view kernel, const Weight& weight,
                       uint32_t rows, bool int16_activations, uint32_t vectors) {
  // Software: loads cost more than arithmetic, so many rows share each load of x. The workgroups
  // are as large as they may be with all threads busy until the end.
  if (caps.cpu) {
    GemvChoice choice{.subgroups = has_shared_lanes(caps),
                      .multicol = true,
                      .shape = {.workgroup_size = 32, .rows = 8, .chunk = 64, .team = 1}};
    const auto longest = [&](uint32_t lanes) {
      const uint32_t groups = (rows + 8 * lanes - 1) / (8 * lanes);
      return (groups + caps.cpu_threads - 1) / caps.cpu_threads * lanes;
    };
    for (uint32_t lanes : {16u, 8u})
      if (longest(lanes) < longest(choice.shape.workgroup_size))
        choice.shape.workgroup_size = lanes;
    choice.shape.row_tile = weight.row_tile;
    choose_vectors(caps, int16_activations, vectors, choice.shape);
    return choice;
  }
  if (!caps.variant.subgroups) {
    GemvChoice choice{
        .subgroups = false,
        .multicol = true,
        .shape = {
            .workgroup_size = 64, .rows = 2, .chunk = 64, .team = 8, .row_tile = weight.row_tile}};
    choose_vectors(caps, int16_activations, vectors, choice.shape);
    return choice;
  }
  GemvChoice choice{.subgroups = true,
                    .multicol = false,
                    .shape = {.workgroup_size = 256,
                              .rows = 2,
                              .chunk = 64,  // 128 leaves room for fewer workgroups, and is slower
                              .row_tile = weight.row_tile}};
  GemvShape& shape = choice.shape;
  if (int16_activations) {
    // The whole vector is staged at once, 80 bytes a block, by large workgroups and, where there
    // are rows for it, few: what they do before the first row takes as long as many rows.
    shape.workgroup_size = std::min(weight.cols > 8192 ? 1024u : 512u, caps.max_invocations);
    shape.rows = rows > 16384 ? 2 : 1;
    shape.unroll = 1;
    shape.chunk = std::clamp(std::bit_ceil(weight.row_blocks()), 16u,
                             std::min(512u, std::bit_floor(caps.max_workgroup_bytes / 88)));
    shape.groups = rows > 4096 ? 256 * 512 / shape.workgroup_size : 0;
  } else if (is_float(weight.type) && vectors <= 1 && caps.max_workgroup_bytes >= 20 << 10) {
    // Many loads under way; as above where the vector fits.
    const bool fits = weight.cols <= 32 * 128;
    shape.workgroup_size = std::min(512u, caps.max_invocations);
    shape.chunk = std::clamp(std::bit_ceil(weight.row_blocks()), 16u, 128u);
    shape.rows = fits ? 2 : 1;
    shape.unroll = fits ? 2 : 4;
    shape.groups = fits && rows > 4096 ? 264 * 512 / shape.workgroup_size : 0;
  }
  choose_vectors(caps, int16_activations, vectors, shape);
  // Large ones run alone on a multiprocessor (DESIGN.md, 3), of which large GPUs have so many.
  if (shape.groups && shape.vectors > 1 && workgroup_bytes(shape, int16_activations) > 24 << 10)
    shape.groups = 132;

  choice.tuning_key = fmt::format("{} {} [{}, {}]{}", kernel, to_string(weight.type), rows,
                                  weight.cols, int16_activations ? " int16" : "");
  if (shape.vectors > 1) choice.tuning_key += fmt::format(" x {}", shape.vectors);
  if (!caps.tuning) return choice;
  const auto tuned = caps.tuning->find(choice.tuning_key);
  if (tuned == caps.tuning->end()) return choice;
  for (const auto& [name, value] : {std::pair("WORKGROUP_SIZE", &shape.workgroup_size),
                                    {"ROWS", &shape.rows},
                                    {"CHUNK", &shape.chunk},
                                    {"GROUPS", &shape.groups},
                                    {"SPLIT", &shape.split},
                                    {"UNROLL", &shape.unroll}})
    if (const auto found = tuned->second.find(name); found != tuned->second.end())
      *value = found->second;
  return choice;
}

gpu::Work with_tuning_key(gpu::Work work, const GemvChoice& choice) {
  for (gpu::Dispatch& dispatch : work.dispatches) dispatch.tuning_key = choice.tuning_key;
  return work;
}

uint32_t gemv_groups(const gpu::Caps& caps, uint32_t rows, bool subgroups, bool multicol,
                     const GemvShape& shape) {
  const uint32_t lanes = multicol    ? shape.team
                         : subgroups ? caps.max_subgroup_size * shape.split
                                     : shape.workgroup_size;
  const uint32_t per_group = std::max(1u, shape.workgroup_size / lanes) * shape.rows;
  return std::min((rows + per_group - 1) / per_group, shape.groups ? shape.groups : 65535u);
}

void require_gemv(const gpu::Caps& caps, std::string_view kernel, const gpu::View& x,
                  const Weight& weight, const gpu::View& norm, uint32_t x_stride,
                  bool use_subgroups, bool multicol, bool int16, const GemvShape& shape) {
  require(x_stride >= weight.cols, "{}: rows of x are {} apart, W has {} columns", kernel, x_stride,
          weight.cols);
  require(x.rows() <= 1 || x_stride % 4 == 0,
          "{}: rows of x are {} elements apart; several must be a multiple of 4", kernel, x_stride);
  require(x.rows() <= 1 || x.cols() == x_stride, "{}: x is {}, its rows {} apart", kernel, x,
          x_stride);
  require(x.cols() >= weight.cols, "{}: x is {}, W has {} columns", kernel, x, weight.cols);
  require(x.rows() <= 65535, "{}: x is {}: at most 65535 rows", kernel, x);
  require(!norm || norm.size() == weight.cols, "{}: norm is {}, W has {} columns", kernel, norm,
          weight.cols);
  require(
      weight.quants.size() >= quant_words(weight.type, weight.rows, weight.cols, weight.row_tile),
      "{}: W's quants are {}, too few for {} [{}, {}]", kernel, weight.quants,
      to_string(weight.type), weight.rows, weight.cols);
  require(is_float(weight.type) ||
              weight.scales.size() >=
                  scale_words(weight.type, weight.rows, weight.cols, weight.row_tile),
          "{}: W's scales are {}, too few for {} [{}, {}]", kernel, weight.scales,
          to_string(weight.type), weight.rows, weight.cols);
  require(!use_subgroups || caps.variant.subgroups,
          "{}: USE_SUBGROUPS on a device without subgroups", kernel);
  require(!(use_subgroups && multicol && shape.team == 1) || has_shared_lanes(caps),
          "{}: TEAM 1 with USE_SUBGROUPS takes subgroups of {} lanes, {} may have {}", kernel,
          shared_lanes, caps.name, caps.min_subgroup_size);
  require(shape.workgroup_size <= caps.max_invocations,
          "{}: WORKGROUP_SIZE {}, {} has at most {} invocations", kernel, shape.workgroup_size,
          caps.name, caps.max_invocations);
  require(workgroup_bytes(shape, int16) <= caps.max_workgroup_bytes,
          "{}: {} vectors of {} blocks at a time are {} bytes of workgroup memory; {} has {}",
          kernel, shape.vectors, shape.chunk, workgroup_bytes(shape, int16), caps.name,
          caps.max_workgroup_bytes);
  require(shape.row_tile == weight.row_tile, "{}: ROW_TILE {}, W's is {}", kernel, shape.row_tile,
          weight.row_tile);
}

uint32_t rows_of_expert(std::string_view kernel, const Weight& weight, const gpu::View& experts,
                        uint32_t num_experts, uint32_t rows) {
  require(num_experts >= 1 && weight.rows % num_experts == 0,
          "{}: W's {} rows do not divide among {} experts", kernel, weight.rows, num_experts);
  require(experts || num_experts == 1, "{}: {} experts, but no row says which", kernel,
          num_experts);
  require(!experts || (experts.type == gpu::Type::u32 && experts.size() == rows),
          "{}: experts are {}, one for each of {} rows are wanted", kernel, experts, rows);
  return weight.rows / num_experts;
}

gpu::Work matmul_gemv(const gpu::Caps& caps, const MatmulGemv& a) {
  const bool int16 = a.int16_activations && !is_float(a.weight.type);
  const GemvChoice choice =
      choose_gemv(caps, "matmul_gemv", a.weight, a.weight.rows / std::max(1u, a.num_experts), int16,
                  a.experts ? 1 : a.x.rows());
  MatmulGemv::Overrides over{choice.shape};
  over.use_subgroups = choice.subgroups;
  over.multicol = choice.multicol;
  over.batched = a.x.rows() > 1;
  over.weight_type = uint32_t(a.weight.type);
  over.norm_input = bool(a.norm);
  over.int16_activations = int16;
  return with_tuning_key(matmul_gemv(caps, a, over), choice);
}

gpu::Work matmul_gemv(const gpu::Caps& caps, const MatmulGemv& a, MatmulGemv::Overrides over) {
  gpu::check(matmul_gemv_kernel, over);
  const uint32_t M = a.x.rows(), K = a.weight.cols,
                 N = rows_of_expert("matmul_gemv", a.weight, a.experts, a.num_experts, M),
                 x_stride = a.x_stride ? a.x_stride : K;
  require_gemv(caps, "matmul_gemv", a.x, a.weight, a.norm, x_stride, over.use_subgroups,
               over.multicol, over.int16_activations, over);
  require(over.vectors == 1 || !a.experts,
          "matmul_gemv: VECTORS {}, but each row of x meets an expert of its own", over.vectors);
  require(over.batched || M <= 1, "matmul_gemv: x is {}, one row without BATCHED", a.x);
  require(WeightType(over.weight_type) == a.weight.type, "matmul_gemv: WEIGHT_TYPE {}, W is {}",
          over.weight_type, to_string(a.weight.type));
  require(over.norm_input == bool(a.norm), "matmul_gemv: NORM_INPUT and norm go together");
  require(a.y.rows() == M && a.y_offset + N <= a.y.cols(),
          "matmul_gemv: y is {}, results are [{}, {}] from column {}", a.y, M, N, a.y_offset);
  gpu::Work work;
  for (const WeightPart& part : split_rows("matmul_gemv", caps, a.weight, a.num_experts))
    work += gpu::Dispatch{
        .kernel = &matmul_gemv_kernel,
        .constants = gpu::constants(over),
        .bindings = {a.x, part.weight.quants, part.weight.scales, a.norm, a.y, a.experts},
        .params = gpu::bytes(MatmulGemv::Params{
            M, part.rows, K, a.alpha, a.eps, a.weight.row_blocks(), x_stride, a.y.cols(),
            a.y_offset + part.first_row, a.experts ? part.experts : 0, part.first_expert}),
        .grid = {gemv_groups(caps, part.rows, over.use_subgroups, over.multicol, over),
                 (M + over.vectors - 1) / over.vectors, 1}};
  return work;
}

}  // namespace ms
