// fused_swiglu_test.cpp: the cases of fused_swiglu.
#include "kernels/fused_swiglu/fused_swiglu.hpp"

#include "kernels/lab.hpp"

namespace ms {

KERNEL_TEST(fused_swiglu) {
  const auto every = [&](const FusedSwiglu& args) {
    lab.every<FusedSwiglu::Overrides>(
        fused_swiglu_kernel, [&](auto over) { return fused_swiglu(lab.caps(), args, over); });
  };
  // Sizes around a lane and a workgroup; dims and offsets that are multiples of 4 and that are not.
  for (auto [rows, dim] : {std::pair{0u, 4u},
                           {3u, 0u},
                           {1u, 1u},
                           {1u, 4u},
                           {3u, 5u},
                           {2u, 6u},
                           {7u, 9u},
                           {1u, 63u},
                           {5u, 51u},
                           {4u, 64u},
                           {1u, 257u},
                           {3u, 341u},
                           {1u, 1024u},
                           {1u, 1028u}})
    for (uint32_t bias_offset : {0u, 8u, 7u})
      for (float clamp_max : {0.0f, 3.0f})
        every({.input = lab.random({rows, 2 * dim}, -10, 10),
               .bias = lab.random({bias_offset + 2 * dim + 2}),
               .y = lab.output({rows, dim}),
               .bias_offset = bias_offset,
               .clamp_max = clamp_max});

  // Outliers among gates and ups, in the bias, alone and where both are.
  for (uint32_t dim : {4u, 5u})
    for (float clamp_max : {0.0f, 7.0f}) {
      const float edges[] = {1e5f, -1e5f, 89, -89, 0, -0.0f, 1e15f, -1e15f, 1, 104, -104};
      every({.input = lab.values({6, 2 * dim}, [&](size_t i) { return edges[i % 11]; }),
             .bias = lab.values({2 * dim}, [](size_t i) { return i == 1 ? -1e5f : 0.5f; }),
             .y = lab.output({6, dim}),
             .clamp_max = clamp_max});
    }

  // A tail beside other memory, which stays as it is: 5 elements of a buffer of 8.
  const gpu::View whole = lab.values({8}, [](size_t i) { return float(i); });
  const FusedSwiglu part{
      .input = lab.random({10}), .bias = lab.random({10}), .y = whole.slice(0, {1, 5})};
  lab.device.submit(lab.device.record(fused_swiglu(lab.caps(), part)));
  const auto after = lab.read(whole);
  for (uint32_t i = 5; i < 8; ++i)
    if (after[i] != float(i)) fail("fused_swiglu: element {} beyond y became {}", i, after[i]);

  // Beyond 65,535 workgroups of 64 lanes of four; input is at the largest binding of any device.
  lab.check(fused_swiglu(
      lab.caps(),
      {.input = lab.values({65'536, 512}, [](size_t i) { return float(i % 1021) / 50 - 10; }),
       .bias = lab.random({512}),
       .y = lab.output({65'536, 256})},
      {.workgroup_size = 64}));

  const FusedSwiglu good{
      .input = lab.random({2, 6}), .bias = lab.random({6}), .y = lab.output({2, 3})};
  const auto bad = [&](std::string_view what, auto change) {
    FusedSwiglu args = good;
    change(args);
    lab.refuses(what, [&] { fused_swiglu(lab.caps(), args); });
  };
  bad("y is absent", [](auto& a) { a.y = {}; });
  bad("input is [2, 3] f32, wants 12", [](auto& a) { a.input.shape = {2, 3}; });
  bad("bias is absent", [](auto& a) { a.bias = {}; });
  bad("bias is [6] f32, 6 elements from 1", [](auto& a) { a.bias_offset = 1; });
  bad("clamp_max is -1", [](auto& a) { a.clamp_max = -1; });
  bad("clamp_max is nan", [](auto& a) { a.clamp_max = NAN; });
}

}  // namespace ms
