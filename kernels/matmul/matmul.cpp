// matmul.cpp: the wrapper of matmul.wgsl.
#include "kernels/matmul/matmul.hpp"

#include "kernels/cast_f32_to_f16/cast_f32_to_f16.hpp"
#include "kernels/residual/residual.hpp"
#include "kernels/shared/lane.hpp"

namespace ms {

using gpu::in, gpu::out;

void matmul_ref(const gpu::HostDispatch& d);
const gpu::Kernel matmul_kernel = gpu::kernel<Matmul>("matmul", {in, in, in, out}, matmul_ref);

Weight plain_b(const gpu::View& matrix) {
  require(matrix.type != gpu::Type::u32, "plain_b: the matrix is {}, want f32 or f16", matrix);
  return {.type = matrix.type == gpu::Type::f16 ? WeightType::f16 : WeightType::f32,
          .rows = matrix.rows(),
          .cols = matrix.cols(),
          .quants = matrix};
}

uint32_t matrix_tile_bytes(const Matmul::Overrides& over) {
  const uint32_t pitch = over.tile_m == 4 ? 5 : 9;  // of 32 columns, or of 64
  return 16 * pitch * 16 * (over.tile_m + over.lane_n);
}

namespace {

constexpr uint32_t matrix_lanes = 32;  // of a subgroup

constexpr uint32_t ceil_div(uint32_t a, uint32_t b) { return (a + b - 1) / b; }

bool has_matrices(const gpu::Caps& caps, const Matmul::Overrides& over) {
  return caps.has_matrices_of(matrix_lanes) && caps.max_invocations >= over.workgroup_size &&
         caps.max_workgroup_bytes >= matrix_tile_bytes(over);
}

bool suits_matrices(const gpu::Caps& caps, const Weight& b, const Matmul::Overrides& over) {
  return !caps.cpu && b.type != WeightType::f32 && has_matrices(caps, over);
}

// Parts of K that are long enough.
uint32_t most_splits(uint32_t K) { return std::clamp(K / 512, 1u, 8u); }

// The largest tile of which there are enough to fill a GPU, and that is not mostly empty: for few
// rows with those of other parts of K.
void choose_tile(uint32_t M, uint32_t N, uint32_t K, Matmul::Overrides& over) {
  constexpr uint64_t enough = 90;
  over.tile_m = M <= 16 ? 1 : M <= 32 ? 2 : M <= 64 ? 4 : 8;
  over.lane_n = 8;
  const uint32_t parts = over.tile_m < 8 ? most_splits(K) : 1;
  const auto tiles = [&] {
    return uint64_t(ceil_div(M, 16 * over.tile_m)) * ceil_div(N, 16 * over.lane_n) * parts;
  };
  while (tiles() < enough && over.lane_n > 2 && over.tile_m * over.lane_n > 16) over.lane_n /= 2;
}

// Where tiles are too few to keep a GPU reading, as many parts of K as make enough of them.
uint32_t choose_splits(uint32_t M, uint32_t N, uint32_t K, const Matmul::Overrides& over) {
  constexpr uint32_t enough = 264;
  const uint32_t tiles = ceil_div(M, 16 * over.tile_m) * ceil_div(N, 16 * over.lane_n);
  return std::clamp(enough / std::max(1u, tiles), 1u, most_splits(K));
}

// Whether c is the product alone, which may be the sum of several.
bool is_whole(const Matmul& a) {
  return a.c.type == gpu::Type::f32 && a.c_offset == 0 &&
         a.c.cols() == (a.transpose_b ? a.b.rows : a.b.cols);
}

}  // namespace

bool takes_halves(const gpu::Caps& caps, uint32_t rows, const Weight& b) {
  Matmul::Overrides over{.matrix = true, .workgroup_size = 256};
  choose_tile(rows, b.rows, b.cols, over);
  return suits_matrices(caps, b, over);
}

gpu::Work matmul(const gpu::Caps& caps, const Matmul& a) {
  Matmul::Overrides over;
  over.f16_mode = a.a.type == gpu::Type::f16 && a.c.type == gpu::Type::f16;
  over.use_vec4 = a.a.cols() % 8 == 0 && a.transpose_b;
  over.weight_type = over.f16_mode ? 0 : uint32_t(a.b.type);
  over.row_tile = a.b.row_tile;
  over.row_lanes = caps.cpu;
  over.use_subgroups = over.row_lanes && has_shared_lanes(caps);
  if (over.row_lanes) over.workgroup_size = 32;
  Matmul::Overrides matrices = over;
  matrices.matrix = true;
  matrices.workgroup_size = 256;
  choose_tile(a.a.rows(), a.transpose_b ? a.b.rows : a.b.cols, a.a.cols(), matrices);
  Matmul args = a;
  if (suits_matrices(caps, a.b, matrices)) {
    over = matrices;
    if (!args.splits && is_whole(a))
      args.splits = choose_splits(a.a.rows(), a.c.cols(), a.a.cols(), over);
  }
  return matmul(caps, args, over);
}

gpu::Work matmul(const gpu::Caps& caps, const Matmul& a, Matmul::Overrides over) {
  gpu::check(matmul_kernel, over);
  require(!over.matrix || has_matrices(caps, over),
          "matmul: MATRIX takes subgroup matrices, subgroups of {} and {} bytes of workgroup "
          "memory; {} has {}, subgroups of {} to {} and {} bytes",
          matrix_lanes, matrix_tile_bytes(over), caps.name, to_string(caps.variant),
          caps.min_subgroup_size, caps.max_subgroup_size, caps.max_workgroup_bytes);
  if (over.use_subgroups) require_shared_lanes(caps, "matmul");
  const uint32_t M = a.a.rows(), K = a.a.cols();
  const uint32_t N = a.transpose_b ? a.b.rows : a.b.cols;
  const WeightType type =
      over.f16_mode || over.mixed_precision ? WeightType::f16 : WeightType(over.weight_type);
  require(type == a.b.type, "matmul: the overrides say {}, B is {}", to_string(type),
          to_string(a.b.type));
  require(K == (a.transpose_b ? a.b.cols : a.b.rows), "matmul: A is {}, B is [{}, {}]{}", a.a,
          a.b.rows, a.b.cols, a.transpose_b ? " transposed" : "");
  require(a.transpose_b || is_float(a.b.type), "matmul: B of type {} is read as [N, K] only",
          to_string(a.b.type));
  require(
      (a.a.type == gpu::Type::f16) == over.f16_mode || (a.a.type == gpu::Type::f16 && over.matrix),
      "matmul: A is {}, C is {}; both are f16 with F16_MODE and f32 without, but A may be f16 "
      "with MATRIX, {}",
      a.a, a.c, over.matrix);
  require((a.c.type == gpu::Type::f16) == over.f16_mode, "matmul: C is {}, F16_MODE {}", a.c,
          over.f16_mode);
  require(over.row_tile == a.b.row_tile, "matmul: ROW_TILE {}, B's is {}", over.row_tile,
          a.b.row_tile);
  require(a.b.row_tile == 1 || (!a.b.plain() && a.transpose_b),
          "matmul: B with a ROW_TILE is packed, [N, K]");
  require(!over.use_vec4 || (K % 8 == 0 && a.transpose_b),
          "matmul: USE_VEC4 takes K in eights and B as [N, K]; A is {}, B is {}transposed", a.a,
          a.transpose_b ? "" : "not ");
  require(a.c.rows() == M && a.c_offset + N <= a.c.cols(),
          "matmul: C is {}, results are [{}, {}] from column {}", a.c, M, N, a.c_offset);
  require(!over.f16_mode || (a.c.cols() % 2 == 0 && a.c_offset % 2 == 0),
          "matmul: C is {} from column {}: f16 rows and offsets are even, a lane writes pairs", a.c,
          a.c_offset);
  const uint32_t b_stride = a.b.plain() ? a.b.cols : a.b.row_blocks() * 32;
  const uint32_t wide = over.row_lanes ? over.lane_n * over.workgroup_size
                        : over.matrix  ? 16 * over.lane_n
                                       : 64,
                 high = over.row_lanes ? over.tile_m
                        : over.matrix  ? 16 * over.tile_m
                                       : 64;
  const auto parts = split_rows("matmul", caps, a.b, 1, 2);  // pairs: of a word of f16
  require(a.transpose_b || parts.size() == 1,
          "matmul: B is [{}, {}], more than one binding of {} holds, {} bytes: not transposed it "
          "must fit",
          a.b.rows, a.b.cols, caps.name, caps.max_binding_bytes);
  require(uint64_t(M) <= 65535ull * high && uint64_t(N) <= 65535ull * wide,
          "matmul: C is [{}, {}], at most [{}, {}]", M, N, 65535ull * high, 65535ull * wide);
  const uint32_t splits = std::max(1u, a.splits);
  require((splits == 1 && !a.residual) || is_whole(a),
          "matmul: c is {}, which only as [{}, {}] f32 may be a sum of parts, or of a residual",
          a.c, M, N);
  require(!a.residual || (a.residual.type == gpu::Type::f32 && a.residual.size() == a.c.size()),
          "matmul: residual is {}, c is {}", a.residual, a.c);
  require(uint64_t(splits) * M * N <= UINT32_MAX && splits <= 65535,
          "matmul: {} parts of [{}, {}], at most 65535, of 2^32 - 1 elements", splits, M, N);
  const uint32_t k_part = splits == 1 ? K : ceil_div(ceil_div(K, splits), 64) * 64;
  gpu::Work work;
  gpu::View rows = a.a, product = a.c;
  if (over.matrix && a.a.type == gpu::Type::f32) {
    rows = work.add_scratch({M, K}, gpu::Type::f16);
    work.append(cast_f32_to_f16(caps, {.x = a.a, .y = rows}));
  }
  if (splits > 1 || a.residual) product = work.add_scratch({splits, M, N});
  for (const WeightPart& part : parts) {
    const uint32_t n = a.transpose_b ? part.rows : N;
    work.dispatches.push_back({.kernel = &matmul_kernel,
                               .constants = gpu::constants(over),
                               .bindings = {rows, part.weight.quants, part.weight.scales, product},
                               .params = gpu::bytes(Matmul::Params{
                                   M, n, K, a.alpha, a.transpose_b, a.b.row_blocks(), b_stride, K,
                                   a.c.cols(), a.c_offset + part.first_row, k_part}),
                               .grid = {ceil_div(M, high), ceil_div(n, wide), splits}});
  }
  if (splits > 1 || a.residual)
    work.append(residual(
        caps, {.a = a.residual, .b = product, .y = a.c, .parts = splits, .sum_only = !a.residual}));
  return work;
}

}  // namespace ms
