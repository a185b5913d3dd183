// attention_combine_test.cpp: the cases of attention_combine.
#include "kernels/attention_combine/attention_combine.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(attention_combine) {
  for (bool f16 : {true, false})
    for (uint32_t splits : {4u, 8u, 12u, 32u})
      for (uint32_t head_dim : {16u, 64u, 128u, 80u})
        for (uint32_t rows : {1u, 2u, 3u}) {
          AttentionCombine args{lab.parts(rows, 3, head_dim, splits, f16), {}};
          for (const auto& [type, tolerance] :
               {std::pair(gpu::Type::f32, Tolerance{}), {gpu::Type::f16, f16_storage}}) {
            args.out = lab.output({rows, 3, head_dim}, type);
            lab.every<AttentionCombine::Overrides>(
                attention_combine_kernel,
                [&](auto over) { return attention_combine(lab.caps(), args, over); }, tolerance);
            lab.check(attention_combine(lab.caps(), args), tolerance);
          }
        }
  // As many query heads as a workgroup's lanes have, and one more.
  for (uint32_t heads : {63u, 64u, 65u, 257u})
    lab.check(attention_combine(lab.caps(),
                                {lab.parts(1, heads, 16, 4, true), lab.output({1, heads, 16})}));

  const AttentionParts parts = lab.parts(1, 2, 16, 4, false);
  const gpu::View out = lab.output({1, 2, 16});
  const auto refuses = [&](std::string_view message, auto change) {
    AttentionCombine args{parts, out};
    change(args);
    lab.refuses(message, [&] { attention_combine(lab.caps(), args); });
  };
  refuses("6 splits, a multiple of 4", [](AttentionCombine& a) { a.parts.splits = 6; });
  refuses("HEAD_DIM is read in sixteens", [](AttentionCombine& a) { a.parts.head_dim = 24; });
  lab.refuses("parts are of [1, 2, 16]", [&] {
    attention_combine(lab.caps(), {parts, out}, {.f16_parts = true, .head_dim = 16});
  });
  lab.refuses("F16_OUT true, parts are of [1, 2, 16]", [&] {
    attention_combine(lab.caps(), {parts, out},
                      {.f16_parts = false, .f16_out = true, .head_dim = 16});
  });
  refuses("are 288 words, parts are [144] u32", [](AttentionCombine& a) { a.parts.splits = 8; });
  refuses("out is [1, 1, 16] f32", [](AttentionCombine& a) { a.out = a.out.slice(0, {1, 1, 16}); });
}

}  // namespace ms
