// layernorm_test.cpp: the cases of layernorm.
#include "kernels/layernorm/layernorm.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(layernorm) {
  const auto every = [&](const LayerNorm& args) {
    lab.every<LayerNorm::Overrides>(layernorm_kernel,
                                    [&](auto over) { return layernorm(lab.caps(), args, over); });
  };
  for (auto [rows, cols] : {std::pair{1u, 1u},
                            {0u, 8u},
                            {1u, 63u},
                            {1u, 64u},
                            {2u, 65u},
                            {2u, 257u},
                            {3u, 384u},
                            {2u, 1024u},
                            {2u, 1025u},
                            {2u, 4096u},
                            {1u, 4097u},
                            {1u, 9001u},
                            {65'537u, 8u}})
    for (bool has_residual : {false, true}) {
      if (rows > 65'000 && has_residual) continue;  // the fold does not depend on it
      const LayerNorm args{.x = lab.random({rows, cols}),
                           .weight = lab.random({cols}),
                           .bias = lab.random({cols}),
                           .residual = has_residual ? lab.random({rows, cols}) : gpu::View{},
                           .y = lab.output({rows, cols}),
                           .eps = 1e-5f};
      if (rows < 65'000) every(args);
      lab.check(layernorm(lab.caps(), args));
    }

  // One large element among small ones, inside a row and in front; a row of zeros and one of
  // equals, which eps keeps finite; small deviations of a large mean.
  every({.x = lab.values({5, 300},
                         [](size_t i) {
                           return i == 7 || i == 1200 ? 1e5f
                                  : i > 1200          ? 1e-3f
                                  : i < 300           ? 1e-3f
                                  : i < 600           ? 0.0f
                                  : i < 900           ? -3.0f
                                  : i % 2 > 0         ? 1024.0f
                                                      : 1026.0f;
                         }),
         .weight = lab.random({300}),
         .bias = lab.random({300}),
         .y = lab.output({5, 300}),
         .eps = 1e-6f});

  const gpu::View x = lab.random({2, 8}), w = lab.random({8}), y = lab.output({2, 8});
  lab.refuses("eps is -1",
              [&] { layernorm(lab.caps(), {.x = x, .weight = w, .bias = w, .y = y, .eps = -1}); });
  lab.refuses("bias is [2, 8]",
              [&] { layernorm(lab.caps(), {.x = x, .weight = w, .bias = x, .y = y}); });
  lab.refuses("residual is [8]", [&] {
    layernorm(lab.caps(), {.x = x, .weight = w, .bias = w, .residual = w, .y = y});
  });
  lab.refuses("y is [8]", [&] { layernorm(lab.caps(), {.x = x, .weight = w, .bias = w, .y = w}); });
}

}  // namespace ms
