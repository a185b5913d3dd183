// bias_add_test.cpp: the cases of bias_add.
#include "kernels/bias_add/bias_add.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(bias_add) {
  const auto every = [&](const BiasAdd& args) {
    lab.every<BiasAdd::Overrides>(bias_add_kernel,
                                  [&](auto over) { return bias_add(lab.caps(), args, over); });
  };
  for (auto [rows, dim] : {std::pair{0u, 5u},
                           {3u, 0u},
                           {1u, 1u},
                           {1u, 63u},
                           {1u, 64u},
                           {5u, 13u},
                           {3u, 85u},
                           {4u, 64u},
                           {257u, 1u},
                           {5u, 51u},
                           {341u, 3u},
                           {16u, 64u},
                           {25u, 41u}})
    every({.bias = lab.random({dim}), .data = lab.random({rows, dim})});

  // One outlier each: it stays in its column.
  every({.bias = lab.values({7}, [](size_t i) { return i == 2 ? 1e5f : 1e-3f; }),
         .data = lab.values({3, 7}, [](size_t i) { return i == 9 ? -1e5f : 1.0f; })});

  // Rows beside others, which stay as they are.
  const gpu::View whole = lab.values({8}, [](size_t i) { return float(i); });
  lab.device.submit(lab.device.record(
      bias_add(lab.caps(), {.bias = lab.random({5}), .data = whole.slice(0, {1, 5})})));
  const auto after = lab.read(whole);
  for (uint32_t i = 5; i < 8; ++i)
    if (after[i] != float(i)) fail("bias_add: element {} beyond data became {}", i, after[i]);

  // Beyond 65,535 workgroups of 64 lanes of four.
  lab.check(bias_add(lab.caps(),
                     {.bias = lab.random({256}),
                      .data = lab.values({65'537, 256}, [](size_t i) { return float(i % 1021); })},
                     {.workgroup_size = 64}));

  const gpu::View bias = lab.random({4}), data = lab.random({2, 3});
  lab.refuses("data is absent", [&] { bias_add(lab.caps(), {.bias = bias, .data = {}}); });
  lab.refuses("bias is absent", [&] { bias_add(lab.caps(), {.bias = {}, .data = data}); });
  lab.refuses("bias is [4] f32, data is [2, 3] f32",
              [&] { bias_add(lab.caps(), {.bias = bias, .data = data}); });
}

}  // namespace ms
