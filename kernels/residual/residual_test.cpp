// residual_test.cpp: the cases of residual.
#include "kernels/residual/residual.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(residual) {
  const auto every = [&](const AddResidual& args) {
    lab.every<AddResidual::Overrides>(residual_kernel,
                                      [&](auto over) { return residual(lab.caps(), args, over); });
  };
  for (uint32_t size : {0u, 1u, 2u, 3u, 4u, 5u, 63u, 64u, 65u, 255u, 256u, 257u, 1023u, 1025u})
    for (bool inplace : {false, true})
      for (float scale : {0.0f, -0.75f})
        every({.a = inplace ? gpu::View{} : lab.random({size}),
               .b = lab.random({size}),
               .y = inplace ? lab.random({size}) : lab.output({size}),
               .scale = scale});

  // Sums of parts, with a, in place, and alone.
  for (uint32_t size : {1u, 5u, 257u})
    for (uint32_t parts : {1u, 2u, 5u})
      for (int how : {0, 1, 2})
        every({.a = how == 0 ? lab.random({size}) : gpu::View{},
               .b = lab.random({parts, size}),
               .y = how == 1 ? lab.random({size}) : lab.output({size}),
               .scale = how == 2 ? 0.5f : 0.0f,
               .parts = parts,
               .sum_only = how == 2});
  lab.refuses("of 3 parts", [&] {
    residual(lab.caps(), {.b = lab.random({2, 4}), .y = lab.output({4}), .parts = 3});
  });
  lab.refuses("b has no parts", [&] {
    residual(lab.caps(), {.b = lab.random({0, 4}), .y = lab.output({4}), .parts = 0});
  });
  lab.refuses("b's sum only", [&] {
    residual(lab.caps(),
             {.a = lab.random({4}), .b = lab.random({4}), .y = lab.output({4}), .sum_only = true});
  });

  lab.check(
      residual(lab.caps(), {.a = lab.random({8}), .b = lab.random({8}), .y = lab.output({8})}));

  // Sums that cancel and one outlier; a and b may be one tensor.
  const gpu::View outlier = lab.values({301}, [](size_t i) {
    return i == 300 ? 1e5f : i % 2 ? -1.0f : 1e-3f;
  });
  every({.a = outlier, .b = outlier, .y = lab.output({301})});
  every({.a = outlier, .b = outlier, .y = lab.output({301}), .scale = -1});

  // A tail beside other memory, which stays as it is: 5 elements of a buffer of 8.
  const AddResidual part{.b = lab.random({8}).slice(0, {5}),
                         .y = lab.values({8}, [](size_t i) { return float(i); }).slice(0, {5})};
  lab.device.submit(lab.device.record(residual(lab.caps(), part, {.use_vec4 = true})));
  const auto after = lab.read(gpu::View{.buffer = part.y.buffer, .shape = {8}});
  for (uint32_t i = 5; i < 8; ++i)
    if (after[i] != float(i)) fail("residual: element {} beyond y became {}", i, after[i]);

  // Beyond 65,535 workgroups of 64 lanes, of one element and of four.
  for (bool use_vec4 : {false, true}) {
    const uint32_t size = (use_vec4 ? 4 : 1) * 64 * 65'536 + 3;
    const AddResidual wide{.b = lab.values({size}, [](size_t i) { return float(i % 1021); }),
                           .y = lab.values({size}, [](size_t i) { return float(i % 7); })};
    lab.check(residual(lab.caps(), wide, {.workgroup_size = 64, .use_vec4 = use_vec4}));
    if (!use_vec4) lab.check(residual(lab.caps(), wide));  // which chooses it
  }

  lab.refuses("a is [4]", [&] {
    residual(lab.caps(), {.a = lab.random({4}), .b = lab.random({3}), .y = lab.output({3})});
  });
  lab.refuses("b is [4]",
              [&] { residual(lab.caps(), {.b = lab.random({4}), .y = lab.output({3})}); });
  lab.refuses("b is absent", [&] { residual(lab.caps(), {.b = {}, .y = lab.output({3})}); });
}

}  // namespace ms
