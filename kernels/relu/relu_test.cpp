// relu_test.cpp: the cases of relu.
#include "kernels/relu/relu.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(relu) {
  const auto every = [&](const Relu& args) {
    lab.every<Relu::Overrides>(relu_kernel,
                               [&](auto over) { return relu(lab.caps(), args, over); });
  };
  // Sizes around multiples of 4 and around a workgroup, of one element a lane and of four.
  for (uint32_t size : {0u, 1u, 3u, 4u, 5u, 63u, 64u, 65u, 255u, 256u, 257u, 1023u, 1025u})
    for (float leaky_alpha : {0.0f, 0.01f, -0.5f}) {
      every({.x = lab.random({size}), .y = lab.output({size}), .leaky_alpha = leaky_alpha});
      every({.y = lab.random({size}), .leaky_alpha = leaky_alpha});
    }

  const float edges[] = {-1e18f, -1e5f, -1, -1e-30f, -0.0f, 0, 1e-30f, 1, 1e5f, 1e18f};
  const gpu::View extreme = lab.values({std::size(edges)}, [&](size_t i) { return edges[i]; });
  for (float leaky_alpha : {0.0f, 0.01f})
    every({.x = extreme, .y = lab.output(extreme.shape), .leaky_alpha = leaky_alpha});

  // A tail beside other memory, which stays as it is: 5 elements of a buffer of 8.
  const gpu::View whole = lab.values({8}, [](size_t i) { return -float(i); });
  const Relu part{.x = lab.random({5}), .y = whole.slice(0, {5})};
  lab.device.submit(lab.device.record(relu(lab.caps(), part, {.use_vec4 = true})));
  const auto after = lab.read(whole);
  for (uint32_t i = 5; i < 8; ++i)
    if (after[i] != -float(i)) fail("relu: element {} beyond y became {}", i, after[i]);

  // Beyond 65,535 workgroups of 64 lanes, of one element and of four.
  for (bool use_vec4 : {false, true}) {
    const uint32_t size = (use_vec4 ? 4 : 1) * 64 * 65'536 + 3;
    const Relu wide{.x = lab.values({size}, [](size_t i) { return float(i % 1021) - 500; }),
                    .y = lab.output({size})};
    lab.check(relu(lab.caps(), wide, {.workgroup_size = 64, .use_vec4 = use_vec4}));
    if (!use_vec4) lab.check(relu(lab.caps(), wide));  // which chooses it
  }

  const gpu::View x = lab.random({3}), y = lab.output({4});
  lab.refuses("y is absent", [&] { relu(lab.caps(), {.x = x, .y = {}}); });
  lab.refuses("x is [3] f32, y is [4] f32", [&] { relu(lab.caps(), {.x = x, .y = y}); });
  lab.refuses("leaky_alpha is inf", [&] { relu(lab.caps(), {.y = y, .leaky_alpha = INFINITY}); });
}

}  // namespace ms
