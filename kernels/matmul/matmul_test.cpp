// matmul_test.cpp: the cases of matmul.
#include "kernels/matmul/matmul.hpp"

#include "kernels/lab.hpp"

namespace ms {

namespace {

// What MATRIX keeps: which of two f16 a device rounds a weight to is its own affair.
Tolerance matrix_sums(uint32_t K) { return {.abs = 1e-4 * std::sqrt(K), .rel = 1e-4}; }

// Whether a device has workgroup memory for a tile of MATRIX.
bool has_room(const Lab& lab, uint32_t tile_m, uint32_t lane_n) {
  return matrix_tile_bytes({.tile_m = tile_m, .lane_n = lane_n}) <= lab.caps().max_workgroup_bytes;
}

// Sizes around those of the tiles of MATRIX, and a K around what they hold at a time.
void check_matrices(Lab& lab) {
  const auto check = [&](uint32_t M, uint32_t N, uint32_t K, WeightType type, uint32_t tile_m,
                         uint32_t lane_n) {
    lab.check(matmul(lab.caps(),
                     {.a = lab.random({M, K}),
                      .b = lab.weight(type, N, K),
                      .c = lab.output({M, N + 2}),
                      .c_offset = 1},
                     {.use_vec4 = K % 8 == 0,
                      .weight_type = uint32_t(type),
                      .matrix = true,
                      .workgroup_size = 256,
                      .tile_m = tile_m,
                      .lane_n = lane_n}),
              matrix_sums(K));
  };
  for (uint32_t tile_m : {1u, 2u, 4u, 8u})
    for (uint32_t lane_n : {2u, 4u, 8u}) {
      if (std::max(2u, tile_m) * lane_n < 16 || !has_room(lab, tile_m, lane_n)) continue;
      const uint32_t rows = 16 * tile_m, columns = 16 * lane_n;
      for (uint32_t K : {1u, 31u, 32u, 33u, 63u, 64u, 65u, 127u, 128u, 129u})
        check(rows + 1, columns - 1, K, WeightType::f16, tile_m, lane_n);
      for (uint32_t M : {1u, 15u, 16u, 17u, rows - 1, rows, rows + 1})
        check(M, columns, 96, WeightType::q8_0, tile_m, lane_n);
      for (uint32_t N : {1u, 15u, 16u, 17u, columns - 1, columns, columns + 1})
        check(rows, N, 160, WeightType::q4_0, tile_m, lane_n);
    }
  // As the wrapper chooses, and B in parts.
  const uint32_t K = 256;
  for (uint32_t M : {15u, 16u, 33u, 65u, 129u}) {
    const Weight b = lab.weight(WeightType::q4_k, 191, K);
    lab.check(matmul(lab.caps(), {.a = lab.random({M, K}), .b = b, .c = lab.output({M, 191})}),
              matrix_sums(K));
    const Matmul halves{.a = lab.random_f16({M, K}),
                        .b = lab.weight(WeightType::f16, 191, K),
                        .c = lab.output({M, 192}, gpu::Type::f16)};
    const auto caps = lab.with_bindings_of(4 * quant_words(WeightType::f16, 129, K));
    lab.check_parts(matmul(lab.caps(), halves), matmul(caps, halves), caps, 2, f16_storage);
    // f16 rows for f32 products, alone and added to a residual.
    if (!takes_halves(lab.caps(), M, b)) fail("matmul: {} takes no f16 rows of A", M);
    for (const gpu::View& residual : {gpu::View{}, lab.random({M, 191})})
      lab.check(matmul(lab.caps(), {.a = lab.random_f16({M, K}),
                                    .b = b,
                                    .c = lab.output({M, 191}),
                                    .residual = residual}),
                matrix_sums(K));
  }
  // Beyond f16's range: the largest, not infinite.
  lab.check(matmul(lab.caps(),
                   {.a = lab.values({16, 8}, [](size_t i) { return i == 9 ? -1e9f : 1.0f; }),
                    .b = plain_b(lab.values({2, 8}, [](size_t i) { return i < 8 ? 1e6f : 0.5f; })),
                    .c = lab.output({16, 2})},
                   {.matrix = true, .workgroup_size = 256, .tile_m = 2}),
            matrix_sums(8));
  // The same in blocks, of which some have a scale of 65504.
  for (WeightType type : {WeightType::q8_0, WeightType::q4_0, WeightType::q4_1, WeightType::q5_0,
                          WeightType::iq4_nl, WeightType::q4_k, WeightType::q6_k}) {
    const uint32_t N = 33, K = 512;
    Weight b = lab.weight(type, N, K);
    b.scales = lab.words({scale_words(type, N, K)}, [](size_t i) {
      return i / 4 % 2 ? 0x7bff7bffu : uint32_t(i) * 0x9e3779b9u & 0x0f0f0f0fu;
    });
    lab.check(matmul(lab.caps(),
                     {.a = lab.values({16, K}, [](size_t i) { return float(i % 5) / 1024; }),
                      .b = b,
                      .c = lab.output({16, N})},
                     {.use_vec4 = true,
                      .weight_type = uint32_t(type),
                      .matrix = true,
                      .workgroup_size = 256,
                      .tile_m = 1}),
              {.abs = 1e-2, .rel = 1e-4});
  }
}

// Sums over parts of K, of which the last ones may be empty, and what they are added to.
void check_parts_of_k(Lab& lab) {
  std::vector<Matmul::Overrides> forms = {
      {.weight_type = uint32_t(WeightType::q8_0)},
      {.weight_type = uint32_t(WeightType::q8_0), .row_lanes = true, .workgroup_size = 32}};
  if (lab.caps().variant.matrix)
    for (uint32_t tile_m : {1u, 2u, 4u, 8u})
      if (has_room(lab, tile_m, 8))
        forms.push_back({.weight_type = uint32_t(WeightType::q8_0),
                         .matrix = true,
                         .workgroup_size = 256,
                         .tile_m = tile_m});
  for (Matmul::Overrides over : forms)
    for (uint32_t K : {32u, 64u, 96u, 544u})
      for (uint32_t splits : {1u, 2u, 3u, 7u})
        for (bool added : {false, true}) {
          const uint32_t M = 17, N = 70;
          over.use_vec4 = true;
          lab.check(
              matmul(lab.caps(),
                     {.a = lab.random({M, K}),
                      .b = lab.weight(WeightType::q8_0, N, K),
                      .c = lab.output({M, N}),
                      .residual = added ? lab.random({M, N}) : gpu::View{},
                      .alpha = -0.5f,
                      .splits = splits},
                     over),
              over.matrix ? matrix_sums(K) : Tolerance{.abs = 2e-6 * std::sqrt(K), .rel = 2e-5});
        }
  const auto bad = [&](gpu::View c, gpu::View residual, uint32_t splits) {
    matmul(lab.caps(),
           {.a = lab.random({2, 64}),
            .b = lab.weight(WeightType::f32, 4, 64),
            .c = c,
            .residual = residual,
            .splits = splits},
           {});
  };
  lab.refuses("may be a sum", [&] { bad(lab.output({2, 6}), {}, 2); });
  lab.refuses("may be a sum", [&] { bad(lab.output({2, 6}), lab.random({2, 6}), 1); });
  lab.refuses("residual is [2, 3]", [&] { bad(lab.output({2, 4}), lab.random({2, 3}), 1); });
}

}  // namespace

KERNEL_TEST(matmul) {
  if (lab.caps().variant.matrix) check_matrices(lab);
  check_parts_of_k(lab);
  struct Case {
    uint32_t M, N, K;
  };
  for (Case c : {Case{1, 1, 1}, {63, 65, 33}, {5, 130, 100}, {65, 64, 512}, {17, 3, 544}}) {
    const gpu::View f32 = lab.random({c.M, c.K}), f16 = lab.random_f16({c.M, c.K});
    const double sum = 2e-6 * std::sqrt(c.K);
    // Packed weights.
    for (WeightType type : weight_types()) {
      if (c.K % info(tensor_type(type)).block_size != 0) continue;
      const Weight bs[] = {lab.weight(type, c.N, c.K), lab.weight(type, c.N, c.K, 8)};
      for (bool matrix : {false, true})
        lab.every<Matmul::Overrides>(
            matmul_kernel,
            [&](auto over) {
              require(over.matrix == matrix, "of another case");
              return matmul(lab.caps(),
                            {.a = f32,
                             .b = bs[over.row_tile > 1],
                             .c = lab.output({c.M, c.N + 5}),
                             .c_offset = 3,
                             .alpha = 0.5f},
                            over);
            },
            matrix ? matrix_sums(c.K) : Tolerance{.abs = sum, .rel = 2e-5});
    }
    // f16 throughout, packed.
    const Weight b16s[] = {lab.weight(WeightType::f16, c.N, c.K),
                           lab.weight(WeightType::f16, c.N, c.K, 8)};
    lab.every<Matmul::Overrides>(
        matmul_kernel,
        [&](auto over) {
          return matmul(lab.caps(),
                        {.a = f16,
                         .b = b16s[over.row_tile > 1],
                         .c = lab.output({c.M, (c.N + 1) / 2 * 2}, gpu::Type::f16)},
                        over);
        },
        f16_storage);
    // Plain matrices, both ways round, and f16 throughout.
    for (bool transpose_b : {false, true}) {
      const gpu::Shape shape = transpose_b ? gpu::Shape{c.N, c.K} : gpu::Shape{c.K, c.N};
      const Weight b32 = plain_b(lab.random(shape)), b16 = plain_b(lab.random_f16(shape));
      const gpu::View c32 = lab.output({c.M, c.N}),
                      c16 = lab.output({c.M, (c.N + 1) / 2 * 2}, gpu::Type::f16);
      for (const Matmul& args : {Matmul{.a = f32, .b = b32, .c = c32, .transpose_b = transpose_b},
                                 Matmul{.a = f32, .b = b16, .c = c32, .transpose_b = transpose_b},
                                 Matmul{.a = f16, .b = b16, .c = c16, .transpose_b = transpose_b}})
        lab.every<Matmul::Overrides>(
            matmul_kernel, [&](auto over) { return matmul(lab.caps(), args, over); },
            args.c.type == gpu::Type::f16 ? f16_storage : Tolerance{.abs = sum, .rel = 2e-5});
    }
  }
  // B beyond one binding, which holds 64 rows; packed and plain, f32 and f16 throughout.
  gpu::Caps no_matrices = lab.caps();
  no_matrices.variant.matrix = false;
  for (uint32_t N : {65u, 128u, 191u}) {
    const uint32_t K = 256;
    const gpu::View a32 = lab.random({7, K}), a16 = lab.random_f16({7, K});
    const gpu::View c32 = lab.output({7, N + 4}),
                    c16 = lab.output({7, (N + 5) / 2 * 2}, gpu::Type::f16);
    const auto check = [&](const Matmul& args, uint64_t bytes) {
      if (bytes < args.a.bytes()) return;  // two bits a weight
      gpu::Caps caps = no_matrices;
      caps.max_binding_bytes = bytes;
      lab.check_parts(matmul(no_matrices, args), matmul(caps, args), caps, (N + 63) / 64,
                      args.c.type == gpu::Type::f16
                          ? f16_storage
                          : Tolerance{.abs = 2e-6 * std::sqrt(K), .rel = 2e-5});
    };
    for (WeightType type : weight_types())
      for (uint32_t tile : {1u, 8u}) {
        const Weight b = lab.weight(type, N, K, tile);
        const uint64_t bytes = 4 * quant_words(type, 64, K);
        check({.a = a32, .b = b, .c = c32, .c_offset = 3}, bytes);
        if (type == WeightType::f16) check({.a = a16, .b = b, .c = c16, .c_offset = 2}, bytes);
      }
    // Rows of 66 bytes: parts are of 128 rows, since of fewer the next would start within 256
    // bytes.
    if (N < 129) continue;
    const gpu::View odd = lab.random({7, 33});
    gpu::Caps caps = no_matrices;
    caps.max_binding_bytes = 2 * 33 * 128;
    const Matmul plain{.a = odd, .b = plain_b(lab.random_f16({N, 33})), .c = c32};
    lab.check_parts(matmul(no_matrices, plain), matmul(caps, plain), caps, 2);
  }
  const auto small = lab.with_bindings_of(4096);
  lab.refuses("not transposed it must fit", [&] {
    matmul(small, {.a = lab.random({1, 64}),
                   .b = plain_b(lab.random({64, 32})),
                   .c = lab.output({1, 32}),
                   .transpose_b = false});
  });
  // No rows; an element of 1e5 among small ones, and all equal.
  const Weight b = lab.weight(WeightType::q8_0, 70, 256, choose_row_tile(lab.caps()));
  lab.check(matmul(lab.caps(), {.a = lab.output({0, 256}), .b = b, .c = lab.output({0, 70})}));
  for (const gpu::View& a :
       {lab.values({3, 256}, [](size_t i) { return i == 300 ? 1e5f : 1e-3f * float(i % 7); }),
        lab.values({3, 256}, [](size_t) { return -0.75f; })})
    lab.check(matmul(lab.caps(), {.a = a, .b = b, .c = lab.output({3, 70})}),
              lab.caps().variant.matrix ? matrix_sums(256) : Tolerance{.abs = 1e-4, .rel = 2e-5});
  lab.refuses("matmul: C is [4194241, 1], at most [4194240, 4194240]", [&] {
    gpu::View a = lab.output({1, 4}, gpu::Type::f32), c = lab.output({1, 1});
    a.shape = {4'194'241, 4}, c.shape = {4'194'241, 1};
    matmul(lab.caps(), {.a = a, .b = lab.weight(WeightType::f32, 1, 4), .c = c}, {});
  });
  // Sums beyond f16 are clamped, not infinite: 8 * 65504 * 2.
  const std::vector<uint16_t> most(8, 0x7bff), two(16, 0x4000);
  const Matmul large{
      .a = lab.upload({1, 8}, gpu::Type::f16, std::as_bytes(std::span(most))),
      .b = plain_b(lab.upload({2, 8}, gpu::Type::f16, std::as_bytes(std::span(two)))),
      .c = lab.output({1, 2}, gpu::Type::f16)};
  lab.check(matmul(lab.caps(), large));
  lab.refuses("B is [4, 8]", [&] {
    matmul(
        lab.caps(),
        {.a = lab.random({2, 9}), .b = lab.weight(WeightType::f32, 4, 8), .c = lab.output({2, 4})});
  });
}

}  // namespace ms
