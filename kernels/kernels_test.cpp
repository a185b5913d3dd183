// kernels_test.cpp: every room's cases, on each preset that this machine's device offers.
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cstdlib>

#include "kernels/lab.hpp"
#include "kernels/migration_cases.hpp"
#include "kernels/shapes.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

struct Case {
  const KernelTest* test;
  gpu::Tier tier;
  bool fast;
};

// The width of lavapipe's vectors, and so of its subgroups, when it is not as usual.
const char* width() { return std::getenv("LP_NATIVE_VECTOR_WIDTH"); }

// Compiled pipelines are kept for each width, which the driver's code depends on.
std::string cache() {
  return std::string(MS_BINARY_DIR "/pipelines") + (width() ? std::string("-") + width() : "");
}

// The rooms that use subgroups, but those that take minutes to compile.
bool depends_on_width(std::string_view room) {
  constexpr std::string_view rooms[] = {"attention_decode",     "attention_streaming",
                                        "dequant_q4k",          "fused_attention",
                                        "fused_matmul_rmsnorm", "rmsnorm",
                                        "sample_argmax",        "softmax",
                                        "softmax_log",          "topk"};
  return std::ranges::find(rooms, room) != std::end(rooms);
}

// With MAINSPRING_FULL: every preset, with and without robustness; every room at every width.
std::vector<Case> cases() {
  const bool full = std::getenv("MAINSPRING_FULL") != nullptr;
  std::vector<Case> result;
  for (const KernelTest* test : kernel_tests()) {
    if (width() && !full && !depends_on_width(test->name)) continue;
    result.push_back({test, gpu::Tier::portable, false});
    result.push_back({test, gpu::Tier::best, false});
    if (!full) continue;
    result.push_back({test, gpu::Tier::subgroups, false});
    result.push_back({test, gpu::Tier::f16, false});
    result.push_back({test, gpu::Tier::best, true});
  }
  return result;
}

std::string name_of(const Case& c) {
  constexpr const char* tiers[] = {"best", "portable", "subgroups", "f16", "matrix"};
  return std::string(c.test->name) + "_" + tiers[int(c.tier)] + (c.fast ? "_fast" : "");
}
void PrintTo(const Case& c, std::ostream* out) { *out << name_of(c); }

class Kernels : public testing::TestWithParam<Case> {};

TEST_P(Kernels, match_their_twins) {
  const Case& c = GetParam();
  // Most of this test is lavapipe compiling, a quarter of it LLVM's optimiser, which the presets
  // with subgroups keep.
  if (c.tier == gpu::Tier::portable) setenv("GALLIVM_PERF", "nopt", 0);
  const auto device = gpu::Device::open(
      {.tier = c.tier, .fast = c.fast, .cache = cache(), .sources = wgsl_sources()});
  for (const gpu::Kernel* kernel : all_kernels())
    if (kernel->name == c.test->name &&
        kernel->bindings.size() > device->caps().max_storage_buffers)
      GTEST_SKIP() << "more storage buffers than this preset has";
  try {
    EXPECT_GT(run_kernel_test(*c.test, *device), 0u);
  } catch (const std::exception& error) {
    FAIL() << error.what();
  }
}

INSTANTIATE_TEST_SUITE_P(Rooms, Kernels, testing::ValuesIn(cases()),
                         [](const auto& info) { return name_of(info.param); });

// On this machine subgroup matrices are what matrix.portable.wgsl makes of them.
class Matrices : public testing::TestWithParam<const char*> {};

TEST_P(Matrices, multiply_as_their_twins) {
  setenv("GALLIVM_PERF", "nopt", 0);
  if (gpu::Device::adapters().at(0).variant.matrix) GTEST_SKIP() << "Rooms runs them, in earnest";
  const auto device =
      gpu::Device::open({.cache = cache(), .sources = wgsl_sources(), .emulates_matrices = true});
  EXPECT_GT(run_matrix_cases(kernel_test(GetParam()), *device), 30u);
}

INSTANTIATE_TEST_SUITE_P(Portable, Matrices,
                         testing::Values("matmul", "attention_prefill", "fused_attention"),
                         [](const auto& info) { return std::string(info.param); });

// The rows of migration.tsv, by family.

struct FamilyCase {
  std::string family;
  gpu::Tier tier;
};
std::vector<FamilyCase> families() {
  std::set<std::string_view> names;
  for (const Migrated& row : migration()) names.insert(row.family);
  std::vector<FamilyCase> result;
  for (const std::string_view name : names)
    for (gpu::Tier tier : {gpu::Tier::portable, gpu::Tier::best})
      result.push_back({std::string(name), tier});
  return result;
}
void PrintTo(const FamilyCase& c, std::ostream* out) { *out << c.family; }

class MigrationRows : public testing::TestWithParam<FamilyCase> {};

TEST_P(MigrationRows, run_as_selected_and_match_their_twins) {
  const auto device =
      gpu::Device::open({.tier = GetParam().tier, .cache = cache(), .sources = wgsl_sources()});
  for (const Migrated& row : migration()) {
    if (row.family != GetParam().family || row.kernel == "(deleted)") continue;
    SCOPED_TRACE(fmt::format("{} {}", row.file, row.entry));
    const bool wants_subgroups = std::ranges::any_of(row.overrides, [](const auto& o) {
      return o.first == "USE_SUBGROUPS" && o.second == "true";
    });
    Lab lab(*device);
    try {
      const auto cases = migration_cases(lab, row);
      EXPECT_FALSE(cases.empty());
      for (const MigrationCase& c : cases) {
        check_selected(row, c.work);
        lab.check(c.work, c.tolerance);
      }
      EXPECT_TRUE(!wants_subgroups || device->caps().variant.subgroups);
    } catch (const std::exception& error) {
      if (!wants_subgroups || device->caps().variant.subgroups)
        ADD_FAILURE() << error.what();
      else
        EXPECT_NE(std::string_view(error.what()).find("SUBGROUPS"), std::string_view::npos)
            << error.what();
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Families, MigrationRows, testing::ValuesIn(families()),
                         [](const auto& info) {
                           return info.param.family +
                                  (info.param.tier == gpu::Tier::best ? "_best" : "_portable");
                         });

// What `mainspring bench --kernels` times.

TEST(ModelShapes, each_kernel_has_one) {
  std::set<std::string_view> shown;
  gpu::Caps caps;
  caps.max_storage_buffers = FusedLayer::storage_buffers;
  for (const ModelShape& shape : model_shapes(caps)) shown.insert(shape.kernel);
  for (const gpu::Kernel* kernel : all_kernels())
    EXPECT_TRUE(shown.contains(kernel->name)) << kernel->name;
}

TEST(ModelShapes, run_the_pipelines_that_were_checked_before) {
  for (const gpu::Tier tier : {gpu::Tier::portable, gpu::Tier::best}) {
    const auto device =
        gpu::Device::open({.tier = tier, .cache = cache(), .sources = wgsl_sources()});
    if (!device->caps().cpu) GTEST_SKIP() << "gigabytes on a GPU: mainspring bench --kernels";
    for (const ModelShape& shape : model_shapes(device->caps())) {
      SCOPED_TRACE(shape.what);
      Tensors tensors(*device);
      EXPECT_NO_THROW(check_shape(*device, shape, shape.make(tensors))) << shape.kernel;
    }
  }
}

TEST(ModelShapes, are_not_timed_with_a_broken_kernel) {
  std::vector<WgslSource> sources(wgsl_sources().begin(), wgsl_sources().end());
  const auto blocks = std::ranges::find(sources, "blocks", &WgslSource::name);
  ASSERT_NE(blocks, sources.end());
  std::string broken(blocks->text);
  const std::string_view offset = "-32.0 * block.scale";  // of Q6_K
  ASSERT_NE(broken.find(offset), broken.npos);
  broken.replace(broken.find(offset), offset.size(), "-31.0 * block.scale");
  blocks->text = broken;
  const auto device = gpu::Device::open({.sources = sources});
  size_t wrong = 0;
  for (const ModelShape& shape : model_shapes(device->caps())) {
    if (shape.kernel != "matmul_gemv_residual") continue;
    Tensors tensors(*device);
    const gpu::Work work = shape.make(tensors);
    if (!shape.what.ends_with("q6_k")) {
      check_shape(*device, shape, work);
      continue;
    }
    ++wrong;
    EXPECT_THROW(check_shape(*device, shape, work), Error) << shape.what;
  }
  EXPECT_GT(wrong, 0u);
}

TEST(ModelShapes, are_not_timed_with_other_overrides_than_were_checked) {
  const auto device = gpu::Device::open({.cache = cache(), .sources = wgsl_sources()});
  const ModelShape shape{.kernel = "scale", .what = "", .make = [](Tensors& t) {
                           return scale(t.caps(), {.x = t.f32({8}), .y = t.out({8})},
                                        {.workgroup_size = t.checks() ? 64u : 256u});
                         }};
  Tensors tensors(*device);
  const gpu::Work work = shape.make(tensors);
  EXPECT_THROW(check_shape(*device, shape, work), Error);
}

TEST(SomeCases, are_few_and_find_a_broken_kernel) {
  const auto device = gpu::Device::open({.sources = wgsl_sources()});
  const KernelTest& test = kernel_test("scale");
  size_t all = 0;
  Lab counting(*device, device->caps(), [&](const gpu::Work&, Tolerance) { ++all; });
  test.run(counting);
  EXPECT_GT(all, 10u);
  EXPECT_EQ(run_some_cases(test, *device), size_t(std::bit_width(all)));  // 1, 2, 4, 8, …

  std::vector<WgslSource> sources(wgsl_sources().begin(), wgsl_sources().end());
  const auto text = std::ranges::find(sources, "scale", &WgslSource::name);
  ASSERT_NE(text, sources.end());
  std::string broken(text->text);
  const std::string_view product = "params.scale *";
  ASSERT_NE(broken.find(product), broken.npos);
  broken.replace(broken.find(product), product.size(), "params.scale +");
  text->text = broken;
  const auto other = gpu::Device::open({.sources = sources});
  EXPECT_THROW(run_some_cases(test, *other), Error);
}

TEST(Rooms, each_kernel_has_cases) {
  std::set<std::string_view> tested;
  for (const KernelTest* test : kernel_tests()) tested.insert(test->name);
  for (const gpu::Kernel* kernel : all_kernels())
    EXPECT_TRUE(tested.contains(kernel->name)) << kernel->name;
}

}  // namespace

// What `mainspring tune` keeps is what wrappers choose; what is senseless there is refused.
TEST(Gemv, takes_what_was_tuned) {
  gpu::Caps caps;
  caps.variant.subgroups = true;
  caps.min_subgroup_size = caps.max_subgroup_size = 32;
  caps.max_workgroup_bytes = 49152;
  caps.max_invocations = 1024;
  gpu::Buffer memory(nullptr, 1 << 20, "none: wrappers touch no device");
  const auto view = [&](uint64_t elements, gpu::Type type = gpu::Type::u32) {
    return gpu::View{.buffer = &memory, .shape = {1, elements}, .type = type};
  };
  const MatmulGemv args{.x = view(256, gpu::Type::f32),
                        .weight = {.type = WeightType::q4_0,
                                   .rows = 512,
                                   .cols = 256,
                                   .quants = view(quant_words(WeightType::q4_0, 512, 256)),
                                   .scales = view(scale_words(WeightType::q4_0, 512, 256))},
                        .y = view(512, gpu::Type::f32),
                        .int16_activations = true};
  const auto value = [](const gpu::Dispatch& d, std::string_view name) {
    return std::ranges::find(d.constants, name, &gpu::Constant::name)->value;
  };
  const gpu::Dispatch before = matmul_gemv(caps, args).dispatches.at(0);
  EXPECT_EQ(before.tuning_key, "matmul_gemv q4_0 [512, 256] int16");

  const auto tuned = [&](uint32_t rows) {
    return std::make_shared<const gpu::Tuning>(
        gpu::Tuning{{before.tuning_key,
                     {{"ROWS", rows}, {"WORKGROUP_SIZE", 128}, {"SPLIT", 2}, {"GROUPS", 5}}}});
  };
  caps.tuning = tuned(4);
  const gpu::Dispatch after = matmul_gemv(caps, args).dispatches.at(0);
  EXPECT_EQ(value(after, "ROWS"), 4);
  EXPECT_EQ(value(after, "WORKGROUP_SIZE"), 128);
  EXPECT_EQ(value(after, "SPLIT"), 2);
  EXPECT_EQ(value(after, "CHUNK"), value(before, "CHUNK"));
  EXPECT_EQ(after.grid[0], 5u);
  MatmulGemv other = args;
  other.int16_activations = false;  // of which the table says nothing
  EXPECT_NE(value(matmul_gemv(caps, other).dispatches.at(0), "ROWS"), 4);

  caps.tuning = tuned(3);
  EXPECT_THROW(matmul_gemv(caps, args), std::invalid_argument);
}

}  // namespace ms
