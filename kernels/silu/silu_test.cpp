// silu_test.cpp: the cases of silu.
#include "kernels/silu/silu.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(silu) {
  using Layout = GateLayout;
  // As it is and, where rows are even and not in place, of f16.
  const auto every = [&](Silu args) {
    lab.every<Silu::Overrides>(silu_kernel,
                               [&](auto over) { return silu(lab.caps(), args, over); });
    if (!args.input || args.y.cols() % 2 != 0) return;
    args.y = lab.output(args.y.shape, gpu::Type::f16);
    lab.every<Silu::Overrides>(
        silu_kernel, [&](auto over) { return silu(lab.caps(), args, over); }, f16_storage);
  };

  // Every layout; dims around multiples of 4, sizes around a workgroup of either width.
  for (auto [rows, dim] : {std::pair{1u, 1u},
                           {1u, 4u},
                           {3u, 5u},
                           {2u, 8u},
                           {7u, 9u},
                           {1u, 64u},
                           {5u, 13u},
                           {3u, 85u},
                           {4u, 64u},
                           {1u, 257u},
                           {1u, 1028u}})
    for (bool has_bias : {false, true}) {
      const gpu::View bias = has_bias ? lab.random({dim}) : gpu::View{};
      const auto x = [&](uint32_t cols) { return lab.random({rows, cols}, -12, 12); };
      const gpu::View y = lab.output({rows, dim});
      every({.input = x(dim), .bias = bias, .y = y});
      every({.input = x(dim), .gate = x(dim), .bias = bias, .y = y});
      every({.bias = bias, .y = x(dim)});
      every({.gate = x(dim), .bias = bias, .y = x(dim)});
      for (Layout layout : {Layout::interleaved, Layout::split, Layout::row_split})
        every({.input = x(2 * dim), .bias = bias, .y = y, .layout = layout});
    }
  lab.check(silu(lab.caps(), {.input = lab.random({3, 8}), .y = lab.output({3, 8})}));
  lab.check(
      silu(lab.caps(), {.input = lab.random({3, 8}), .y = lab.output({3, 8}, gpu::Type::f16)}),
      f16_storage);
  every({.input = lab.output({0}), .y = lab.output({0})});
  every({.input = lab.output({0, 8}), .y = lab.output({3, 0}), .layout = Layout::row_split});

  // A tail beside other memory, which stays as it is: 5 elements of a buffer of 8.
  const gpu::View whole = lab.values({8}, [](size_t i) { return float(i); });
  lab.device.submit(
      lab.device.record(silu(lab.caps(), {.y = whole.slice(0, {5})}, {.use_vec4 = true})));
  const auto after = lab.read(whole);
  for (uint32_t i = 5; i < 8; ++i)
    if (after[i] != float(i)) fail("silu: element {} beyond y became {}", i, after[i]);

  // Where exp(-x) overflows, underflows or vanishes beside 1; zeros of both signs.
  const float edges[] = {-3.4e38f, -1e5f, -104,  -103, -89, -88, -87, -17,  -1e-6f,
                         -0.0f,    0,     1e-6f, 17,   88,  89,  104, 1e5f, 3.4e38f};
  const gpu::View extreme = lab.values({std::size(edges)}, [&](size_t i) { return edges[i]; });
  every({.input = extreme, .y = lab.output(extreme.shape)});
  every({.input = lab.random(extreme.shape), .gate = extreme, .y = lab.output(extreme.shape)});

  // Beyond 65,535 workgroups of 64 lanes, of one element and of four.
  for (bool use_vec4 : {false, true}) {
    const uint32_t rows = (use_vec4 ? 4 : 1) * 8192 + 1, dim = 64 * 8;
    const Silu wide{
        .y = lab.values({rows, dim}, [](size_t i) { return float(int(i % 4099)) / 100 - 20; })};
    lab.check(silu(lab.caps(), wide, {.workgroup_size = 64, .use_vec4 = use_vec4}));
    if (!use_vec4) lab.check(silu(lab.caps(), wide));  // which chooses it
  }

  const gpu::View x = lab.random({2, 6}), y = lab.output({2, 3});
  lab.refuses("y is absent", [&] { silu(lab.caps(), {.input = x, .y = {}}); });
  lab.refuses("input is [2, 6] f32, wants 6", [&] { silu(lab.caps(), {.input = x, .y = y}); });
  lab.refuses("input is [2, 3] f32, wants 12", [&] {
    silu(lab.caps(), {.input = lab.random({2, 3}), .y = y, .layout = Layout::split});
  });
  lab.refuses("in place", [&] { silu(lab.caps(), {.y = y, .layout = Layout::interleaved}); });
  lab.refuses("in place", [&] { silu(lab.caps(), {.y = lab.output({2, 4}, gpu::Type::f16)}); });
  lab.refuses("even number of columns", [&] {
    silu(lab.caps(), {.input = y, .y = lab.output({2, 3}, gpu::Type::f16)});
  });
  lab.refuses("F16_OUT, true", [&] { silu(lab.caps(), {.input = x, .y = x}, {.f16_out = true}); });
  lab.refuses("gate is [2, 3]", [&] {
    silu(lab.caps(), {.input = x, .gate = lab.random({2, 3}), .y = y, .layout = Layout::split});
  });
  lab.refuses("gate is [2, 6]", [&] { silu(lab.caps(), {.gate = x, .y = y}); });
  lab.refuses("bias is [2, 6]", [&] { silu(lab.caps(), {.bias = x, .y = y}); });
}

}  // namespace ms
