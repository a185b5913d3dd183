// gelu_test.cpp: the cases of gelu.
#include "kernels/gelu/gelu.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(gelu) {
  using Layout = GateLayout;
  // As it is and, where rows are even and not in place, of f16.
  const auto every = [&](Gelu args) {
    for (bool erf : {false, true}) {
      args.erf = erf;
      lab.every<Gelu::Overrides>(gelu_kernel,
                                 [&](auto over) { return gelu(lab.caps(), args, over); });
      if (!args.input || args.y.cols() % 2 != 0) continue;
      Gelu halves = args;
      halves.y = lab.output(args.y.shape, gpu::Type::f16);
      lab.every<Gelu::Overrides>(
          gelu_kernel, [&](auto over) { return gelu(lab.caps(), halves, over); }, f16_storage);
    }
  };

  // Every layout; dims around multiples of 4, sizes around a workgroup of either width.
  for (auto [rows, dim] : {std::pair{1u, 1u},
                           {3u, 5u},
                           {2u, 8u},
                           {7u, 9u},
                           {1u, 64u},
                           {5u, 13u},
                           {4u, 64u},
                           {1u, 257u},
                           {1u, 1028u}}) {
    const auto x = [&](uint32_t cols) { return lab.random({rows, cols}, -6, 6); };
    const gpu::View y = lab.output({rows, dim});
    every({.input = x(dim), .y = y});
    every({.input = x(dim), .gate = x(dim), .y = y});
    every({.y = x(dim)});
    every({.gate = x(dim), .y = x(dim)});
    for (Layout layout : {Layout::interleaved, Layout::split, Layout::row_split})
      every({.input = x(2 * dim), .y = y, .layout = layout});
  }
  every({.input = lab.output({0}), .y = lab.output({0})});
  every({.input = lab.output({0, 8}), .y = lab.output({3, 0}), .layout = Layout::row_split});

  // A tail beside other memory, which stays as it is: 5 elements of a buffer of 8.
  const gpu::View whole = lab.values({8}, [](size_t i) { return float(i); });
  lab.device.submit(
      lab.device.record(gelu(lab.caps(), {.y = whole.slice(0, {5})}, {.use_vec4 = true})));
  const auto after = lab.read(whole);
  for (uint32_t i = 5; i < 8; ++i)
    if (after[i] != float(i)) fail("gelu: element {} beyond y became {}", i, after[i]);

  // Where 1 + tanh cancels, where the bound of the argument begins, where the cube overflows; zeros
  // of both signs.
  const float edges[] = {-3.4e38f, -1e30f, -1e13f, -1e5f, -12.5f, -12, -11,  -7,    -5,    -3,
                         -1e-6f,   -0.0f,  0,      1e-6f, 3,      12,  1e5f, 1e13f, 1e30f, 3.4e38f};
  const gpu::View extreme = lab.values({std::size(edges)}, [&](size_t i) { return edges[i]; });
  every({.input = extreme, .y = lab.output(extreme.shape)});
  every({.input = lab.random(extreme.shape), .gate = extreme, .y = lab.output(extreme.shape)});
  const gpu::View outlier = lab.values({2, 8}, [](size_t i) {
    return i == 3 ? 1e5f : i == 12 ? -1e5f : 0.5f;
  });
  every({.input = outlier, .y = lab.output({2, 4}), .layout = Layout::row_split});

  // Beyond 65,535 workgroups of 64 lanes, of one element and of four.
  for (bool use_vec4 : {false, true}) {
    const uint32_t rows = (use_vec4 ? 4 : 1) * 8192 + 1, dim = 64 * 8;
    const Gelu wide{
        .y = lab.values({rows, dim}, [](size_t i) { return float(int(i % 4099)) / 200 - 10; })};
    lab.check(gelu(lab.caps(), wide, {.workgroup_size = 64, .use_vec4 = use_vec4}));
    if (!use_vec4) lab.check(gelu(lab.caps(), wide));  // which chooses it
  }
  lab.check(gelu(lab.caps(), {.input = lab.random({3, 8}), .y = lab.output({3, 8})}));

  const gpu::View x = lab.random({2, 6}), y = lab.output({2, 3});
  lab.refuses("y is absent", [&] { gelu(lab.caps(), {.input = x, .y = {}}); });
  lab.refuses("input is [2, 6] f32, wants 6", [&] { gelu(lab.caps(), {.input = x, .y = y}); });
  lab.refuses("in place", [&] { gelu(lab.caps(), {.y = y, .layout = Layout::interleaved}); });
  lab.refuses("gate is [2, 3]", [&] {
    gelu(lab.caps(), {.input = x, .gate = lab.random({2, 3}), .y = y, .layout = Layout::split});
  });
  lab.refuses("gate is [2, 6]", [&] { gelu(lab.caps(), {.gate = x, .y = y}); });
}

}  // namespace ms
