// rmsnorm_test.cpp: the cases of rmsnorm, which are also its benchmark.
#include "kernels/rmsnorm/rmsnorm.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(rmsnorm) {
  for (auto [rows, cols] : {std::pair{1u, 1u},
                            {0u, 8u},
                            {1u, 63u},
                            {1u, 64u},
                            {2u, 65u},
                            {3u, 255u},
                            {2u, 256u},
                            {2u, 257u},
                            {3u, 1153u},
                            {3u, 1024u},
                            {2u, 1025u},
                            {2u, 4096u},
                            {1u, 4097u},
                            {1u, 9001u},
                            {65'537u, 8u}})
    for (Residual has_residual : {Residual::none, Residual::after, Residual::before}) {
      if (rows > 65'000 && has_residual != Residual::none)
        continue;  // the fold does not depend on it
      RmsNorm args{
          .x = lab.random({rows, cols}),
          .weight = lab.random({cols}),
          .residual = has_residual != Residual::none ? lab.random({rows, cols}) : gpu::View{},
          .y = lab.output({rows, cols}),
          .prenorm = has_residual == Residual::before ? lab.output({rows, cols}) : gpu::View{},
          .has_residual = has_residual};
      const auto check = [&](Tolerance tolerance) {
        lab.every<RmsNorm::Overrides>(
            rmsnorm_kernel, [&](auto over) { return rmsnorm(lab.caps(), args, over); }, tolerance);
        // Wider workgroups, where there are.
        if (cols > 4096) lab.check(rmsnorm(lab.caps(), args), tolerance);
      };
      check({});
      if (cols % 2 != 0) continue;
      args.y = lab.output({rows, cols}, gpu::Type::f16);
      check(f16_storage);
    }

  // One large element among small ones, a row of zeros, which eps keeps finite, and an even one.
  RmsNorm outlier{.x = lab.values({3, 300},
                                  [](size_t i) {
                                    return i == 7 ? 1e5f : i < 300 ? 1e-3f : i < 600 ? 0.0f : -3.0f;
                                  }),
                  .weight = lab.random({300}),
                  .y = lab.output({3, 300})};
  lab.every<RmsNorm::Overrides>(rmsnorm_kernel,
                                [&](auto over) { return rmsnorm(lab.caps(), outlier, over); });
  lab.check(rmsnorm(lab.caps(), outlier));

  // The same beyond f16's range: the largest, not infinite.
  outlier.y = lab.output({3, 300}, gpu::Type::f16);
  outlier.weight = lab.random({300}, 1e4f, 1e5f);
  lab.check(rmsnorm(lab.caps(), outlier), f16_storage);

  lab.refuses("even number of columns", [&] {
    return rmsnorm(lab.caps(), {.x = lab.output({2, 3}),
                                .weight = lab.output({3}),
                                .y = lab.output({2, 3}, gpu::Type::f16)});
  });
  lab.refuses("F16_OUT true", [&] {
    return rmsnorm(lab.caps(),
                   {.x = lab.output({2, 4}), .weight = lab.output({4}), .y = lab.output({2, 4})},
                   {.f16_out = true});
  });
  lab.refuses("CACHE_INPUT holds 1024 columns", [&] {
    return rmsnorm(
        lab.caps(),
        {.x = lab.output({1, 1025}), .weight = lab.output({1025}), .y = lab.output({1, 1025})},
        {.workgroup_size = 64, .cache_input = true});
  });
  lab.refuses("eps is -1", [&] {
    return rmsnorm(lab.caps(),
                   {.x = outlier.x, .weight = outlier.weight, .y = outlier.y, .eps = -1});
  });
  lab.refuses("weight is", [&] {
    return rmsnorm(lab.caps(), {.x = outlier.x, .weight = outlier.y, .y = outlier.y});
  });
}

}  // namespace ms
