// bf16_to_f16_test.cpp: the cases of bf16_to_f16.
#include "kernels/bf16_to_f16/bf16_to_f16.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(bf16_to_f16) {
  // `size` elements from one pattern on; after 0xffff comes 0.
  const auto args_of = [&](uint32_t size, uint32_t first = 0) {
    return Bf16ToF16{.x = lab.words({(size + 1) / 2},
                                    [=](size_t i) {
                                      const uint32_t low = first + 2 * uint32_t(i);
                                      return (low & 0xffff) | (low + 1) << 16;
                                    }),
                     .y = lab.output({size}, gpu::Type::f16)};
  };
  const auto every = [&](const Bf16ToF16& args) {
    lab.every<Bf16ToF16::Overrides>(
        bf16_to_f16_kernel, [&](auto over) { return bf16_to_f16(lab.caps(), args, over); }, exact);
  };

  // Every pattern there is: numbers, subnormals, beyond f16, infinities, NaN.
  every(args_of(65'536));
  // Sizes around a word, a lane and a workgroup.
  for (uint32_t size :
       {0u, 1u, 2u, 3u, 7u, 8u, 9u, 63u, 65u, 257u, 511u, 513u, 2047u, 2048u, 2049u})
    every(args_of(size, 0x3f80));
  every(args_of(9, 0x47bf));  // 1e5 and around

  // An odd end beside other memory, which stays as it is: 5 elements of 12.
  const gpu::View whole = lab.random_f16({12});
  const auto before = lab.read(whole);
  lab.device.submit(
      lab.device.record(bf16_to_f16(lab.caps(), {.x = args_of(5).x, .y = whole.slice(0, {5})})));
  const auto after = lab.read(whole);
  for (uint32_t i = 5; i < 12; ++i)
    if (after[i] != before[i]) fail("bf16_to_f16: element {} beyond y became {}", i, after[i]);

  // Beyond 65,535 workgroups of 64 lanes of eight.
  lab.check(bf16_to_f16(lab.caps(), args_of(8 * 64 * 65'536 + 5), {.workgroup_size = 64}), exact);

  const Bf16ToF16 good = args_of(5);
  lab.refuses("y is absent", [&] { bf16_to_f16(lab.caps(), {good.x, {}}); });
  lab.refuses("x is absent, wants [3] u32", [&] { bf16_to_f16(lab.caps(), {{}, good.y}); });
  lab.refuses("x is [2] u32, wants [3] u32", [&] {
    bf16_to_f16(lab.caps(), {good.x.slice(0, {2}), good.y});
  });
  lab.refuses("y is [3] u32, wants f16", [&] { bf16_to_f16(lab.caps(), {good.x, good.x}); });
}

}  // namespace ms
