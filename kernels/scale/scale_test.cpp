// scale_test.cpp: the cases of scale.
#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(scale) {
  for (uint32_t size : {1u, 63u, 64u, 65u, 255u, 256u, 257u, 1023u, 1024u, 1025u, 5000u})
    for (bool inplace : {false, true}) {
      const Scale args{.x = inplace ? gpu::View{} : lab.random({size}),
                       .y = inplace ? lab.random({size}) : lab.output({size}),
                       .scale = -1.5f};
      lab.every<Scale::Overrides>(scale_kernel,
                                  [&](auto over) { return scale(lab.caps(), args, over); });
    }
  // Beyond 65,535 workgroups of 64, and nothing at all.
  const Scale wide{.x = lab.random({16'800'000}), .y = lab.output({16'800'000}), .scale = 2};
  lab.check(scale(lab.caps(), wide, {.workgroup_size = 64}));
  lab.check(scale(lab.caps(), {.x = lab.random({0}), .y = lab.output({0}), .scale = 2}));
  lab.refuses("y is [3]", [&] { scale(lab.caps(), {.x = lab.random({4}), .y = lab.output({3})}); });
}

}  // namespace ms
