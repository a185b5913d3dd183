// cast_f32_to_f16_test.cpp: the cases of cast_f32_to_f16.
#include "kernels/cast_f32_to_f16/cast_f32_to_f16.hpp"

#include "base/half.hpp"
#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(cast_f32_to_f16) {
  const auto every = [&](const gpu::View& x) {
    const CastF32ToF16 args{.x = x, .y = lab.output(x.shape, gpu::Type::f16)};
    lab.every<CastF32ToF16::Overrides>(
        cast_f32_to_f16_kernel, [&](auto over) { return cast_f32_to_f16(lab.caps(), args, over); },
        exact);
  };
  const auto bits = [&](size_t size, const std::function<uint32_t(size_t)>& value) {
    gpu::View x = lab.words({size}, value);
    x.type = gpu::Type::f32;
    return x;
  };

  // Sizes around a word, a lane and a workgroup.
  for (uint32_t size : {0u, 1u, 2u, 3u, 4u, 5u, 255u, 256u, 257u, 1023u, 1024u, 1025u, 1026u})
    every(lab.random({size}, -70'000, 70'000));

  // Every f16, and what lies around halfway to the next: rounding, ties, overflow, infinities, NaN.
  every(bits(4 * 65536, [](size_t i) {
    const uint32_t value = std::bit_cast<uint32_t>(f16_to_f32(uint16_t(i / 4)));
    return i % 4 ? value + 0xffe + uint32_t(i % 4) : value;
  }));
  // Halfway between subnormals, and a bit to either side.
  every(bits(3 * 1024, [](size_t i) {
    return std::bit_cast<uint32_t>((float(i / 3) + 0.5f) * 0x1p-24f) - 1 + uint32_t(i % 3);
  }));
  // All exponents, of both signs, with mantissas of all sorts; 1e5 is among what becomes 65504.
  every(bits(512 * 64, [](size_t i) {
    return uint32_t(i / 64) << 23 | (uint32_t(i % 64) * 0x9e3779b9u & 0x7fffffu);
  }));
  every(lab.values({9}, [](size_t i) { return i == 4 ? 1e5f : i == 5 ? -1e5f : 0.1f; }));

  // An odd end beside other memory, which stays as it is: 5 halves of 12.
  const gpu::View whole = lab.random_f16({12});
  const auto before = lab.read(whole);
  lab.device.submit(lab.device.record(
      cast_f32_to_f16(lab.caps(), {.x = lab.random({5}), .y = whole.slice(0, {5})})));
  const auto after = lab.read(whole);
  for (uint32_t i = 5; i < 12; ++i)
    if (after[i] != before[i]) fail("cast_f32_to_f16: element {} beyond y became {}", i, after[i]);

  // Beyond 65,535 workgroups of 64 lanes of four.
  const CastF32ToF16 wide{
      .x = lab.values({4 * 64 * 65'536 + 3}, [](size_t i) { return float(i) / 256; }),
      .y = lab.output({4 * 64 * 65'536 + 3}, gpu::Type::f16)};
  lab.check(cast_f32_to_f16(lab.caps(), wide, {.workgroup_size = 64}), exact);

  const gpu::View x = lab.random({3}), y = lab.output({4}, gpu::Type::f16);
  lab.refuses("x is [3] f32, y is [4] f16", [&] { cast_f32_to_f16(lab.caps(), {x, y}); });
  lab.refuses("y is [3] f32, wants f16", [&] { cast_f32_to_f16(lab.caps(), {x, x}); });
  lab.refuses("x is absent", [&] { cast_f32_to_f16(lab.caps(), {{}, y}); });
  lab.refuses("y is absent", [&] { cast_f32_to_f16(lab.caps(), {x, {}}); });
}

}  // namespace ms
