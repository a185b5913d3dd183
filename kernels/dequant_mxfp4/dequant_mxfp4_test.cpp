// dequant_mxfp4_test.cpp: the cases of dequant_mxfp4, which is exact.
#include "kernels/dequant_mxfp4/dequant_mxfp4.hpp"

#include "kernels/lab.hpp"

namespace ms {

namespace {

// Nibbles of every value under scales of every value, the extreme ones first.
DequantMxfp4 random_case(Lab& lab, uint32_t rows, uint32_t cols, uint32_t row_stride,
                         uint32_t group_size, uint32_t num_experts) {
  const uint64_t elements = uint64_t(rows) * cols * num_experts, groups = elements / group_size;
  constexpr uint8_t extreme[] = {0, 1, 2, 127, 252, 253, 254, 255};
  return {.blocks = lab.words({elements / 8},
                              [](size_t i) { return uint32_t(i * 2654435761u) ^ 0x76543210; }),
          .scales = lab.words({(groups + 3) / 4},
                              [&](size_t i) {
                                uint32_t word = 0;
                                for (size_t j = 0; j < 4; ++j) {
                                  const size_t g = 4 * i + j;
                                  word |= (g < 8 ? extreme[g] : uint8_t(g * 41)) << (8 * j);
                                }
                                return word;
                              }),
          .y = lab.output({rows, row_stride}),
          .cols = cols,
          .group_size = group_size,
          .num_experts = num_experts};
}

}  // namespace

KERNEL_TEST(dequant_mxfp4) {
  struct Case {
    uint32_t rows, cols, row_stride, group_size;
  };
  // Around a workgroup of either size and form; rows with space behind them, which is left alone.
  for (Case c : {Case{0, 32, 32, 32},
                 {1, 32, 32, 32},
                 {3, 64, 68, 32},
                 {5, 96, 96, 32},
                 {2, 40, 40, 8},
                 {1, 256, 256, 32},
                 {9, 288, 300, 96},
                 {1, 1024, 1024, 32},
                 {33, 64, 64, 64}})
    for (uint32_t num_experts : {1u, 3u})
      lab.every<DequantMxfp4::Overrides>(
          dequant_mxfp4_kernel,
          [&](auto over) {
            DequantMxfp4 args =
                random_case(lab, c.rows, c.cols, c.row_stride, c.group_size, num_experts);
            args.expert_idx = num_experts - 1;
            return dequant_mxfp4(lab.caps(), args, over);
          },
          exact);

  // Beyond 65,535 workgroups, of 4 lanes.
  const DequantMxfp4 many = random_case(lab, 8193, 512, 512, 32, 1);
  lab.check(dequant_mxfp4(lab.caps(), many, {.workgroup_size = 4}), exact);
  lab.check(dequant_mxfp4(lab.caps(), many), exact);

  DequantMxfp4 args = random_case(lab, 3, 64, 64, 32, 2);
  lab.check(dequant_mxfp4(lab.caps(), args), exact);
  const auto refuses = [&](std::string_view what, auto change) {
    DequantMxfp4 other = args;
    change(other);
    lab.refuses(what, [&] { dequant_mxfp4(lab.caps(), other); });
  };
  refuses("y is absent", [](auto& a) { a.y = {}; });
  refuses("for 96 columns", [](auto& a) { a.cols = 96; });
  refuses("no multiple of 4", [&](auto& a) { a.y = lab.output({3, 70}); });
  refuses("in groups of 12", [](auto& a) { a.group_size = 12; });
  refuses("64 columns in groups of 48", [](auto& a) { a.group_size = 48; });
  refuses("expert 2 of 2", [](auto& a) { a.expert_idx = 2; });
  refuses("blocks are [48] u32, want 72", [](auto& a) { a.num_experts = 3; });
  refuses("scales are [2] u32, want 12", [](auto& a) { a.scales = a.scales.slice(0, {2}); });
  lab.refuses("EXPERT is false", [&] { dequant_mxfp4(lab.caps(), args, {.expert = false}); });
}

}  // namespace ms
