// plan_test.cpp: the migration plan's table: its 37 kernels, and the overrides and uniforms that it
// names. Others may be added; these keep their names, types and defaults.
#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/kernels.hpp"
#include "kernels/room.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

struct Planned {
  std::string_view kernel;
  std::vector<std::string_view> overrides;  // "NAME: type = default"
  std::vector<std::string_view> uniforms = {};
};

const std::vector<Planned>& plan() {
  static const std::vector<Planned> kernels = {
      {"attention_prefill",
       {"F16_KV: bool = false", "SMALL_TILES: bool = false", "BLOCK_SIZE: u32 = 64",
        "HEAD_TILE: u32 = 64"}},
      {"attention_decode",
       {"F16_KV: bool = false", "USE_SUBGROUPS: bool = true", "MULTIHEAD: bool = false"}},
      {"attention_streaming", {"F16_KV: bool = false"}},
      // The plan's `layout` is a reserved word of WGSL.
      {"silu", {"USE_VEC4: bool = false"}, {"has_gate", "has_bias", "gate_layout"}},
      {"gelu", {"USE_VEC4: bool = false"}, {"has_gate", "gate_layout"}},
      {"relu", {"USE_VEC4: bool = false"}, {"leaky_alpha"}},
      {"rope_precomputed", {}},
      {"rope_compute", {}, {"scaling_mode", "fused_qk"}},
      {"rope_init", {}},
      {"sample_argmax", {"IS_REDUCE_PHASE: bool = false"}},
      {"sample_topk", {}, {"phase"}},
      {"softmax", {"SMALL_SIZE: bool = false", "ONLINE: bool = false"}, {"inplace"}},
      {"softmax_log", {}},
      {"rmsnorm",
       {"SMALL_SIZE: bool = false", "CACHE_INPUT: bool = false"},
       {"has_residual", "output_prenorm"}},
      {"matmul",
       {"F16_MODE: bool = false", "MIXED_PRECISION: bool = false", "USE_VEC4: bool = false"}},
      {"matmul_gemv",
       {"USE_SUBGROUPS: bool = true", "MULTICOL: bool = false", "BATCHED: bool = false"}},
      {"matmul_gemv_residual", {}},
      {"dequant_q4k",
       {"USE_SUBGROUPS: bool = false", "USE_VEC4: bool = false", "F16_OUT: bool = false"}},
      {"dequant_q6k", {}},
      {"dequant_q8_0", {}},
      {"dequant_mxfp4", {}},
      {"fused_ffn",
       {"F16_WEIGHTS: bool = false", "BATCHED: bool = false", "MULTI_OUTPUT: bool = false"}},
      {"fused_matmul_q4", {"MULTICOL: bool = false", "BATCHED: bool = false"}},
      {"fused_matmul_rmsnorm",
       {"SMALL_N: bool = false", "MEDIUM_N: bool = false", "PHASE1_ONLY: bool = false"}},
      {"fused_swiglu", {}},
      {"topk", {"FUSED_SOFTMAX: bool = false", "SMALL_K: bool = false"}},
      {"moe_gather", {}},
      {"scatter_add", {"USE_VEC4: bool = false", "DYNAMIC_LAYOUT: bool = false"}, {"accumulate"}},
      {"gather", {"USE_VEC4: bool = false", "F16_EMBEDDINGS: bool = false"}},
      {"residual", {"USE_VEC4: bool = false"}, {"inplace", "scale"}},
      {"scale", {}, {"inplace"}},
      {"split_qkv", {}},
      {"check_stop", {}},
      {"bias_add", {}},
      {"cast_f32_to_f16", {}},
      {"bf16_to_f32", {}},
      {"bf16_to_f16", {}},
  };
  return kernels;
}

TEST(Plan, has_37_kernels_and_each_is_here) {
  EXPECT_EQ(plan().size(), 37u);
  for (const Planned& planned : plan())
    EXPECT_NE(std::ranges::find(all_kernels(), planned.kernel, &gpu::Kernel::name),
              all_kernels().end())
        << planned.kernel;
}

TEST(Plan, its_overrides_and_uniforms_keep_names_types_and_defaults) {
  for (const Planned& planned : plan()) {
    const auto source = std::ranges::find(wgsl_sources(), planned.kernel, &WgslSource::name);
    ASSERT_NE(source, wgsl_sources().end()) << planned.kernel;
    const Room room = read_room(source->text);
    for (const std::string_view wanted : planned.overrides)
      EXPECT_TRUE(std::ranges::any_of(room.overrides,
                                      [&](const Declared& o) {
                                        return fmt::format("{}: {} = {}", o.name, o.type,
                                                           o.value) == wanted;
                                      }))
          << planned.kernel << " has no override " << wanted;
    for (const std::string_view wanted : planned.uniforms)
      EXPECT_NE(std::ranges::find(room.params, wanted, &Declared::name), room.params.end())
          << planned.kernel << " has no uniform " << wanted;
  }
}

TEST(Plan, a_kernel_beyond_it_says_what_forces_it) {
  for (const gpu::Kernel* kernel : all_kernels()) {
    if (std::ranges::find(plan(), kernel->name, &Planned::kernel) != plan().end()) continue;
    const Room room =
        read_room(std::ranges::find(wgsl_sources(), kernel->name, &WgslSource::name)->text);
    EXPECT_NE(room.header.find("Beyond the plan: "), std::string::npos)
        << kernel->name << ": its header names the feature or the mathematics that forces it";
  }
}

}  // namespace

}  // namespace ms
