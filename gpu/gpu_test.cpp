// gpu_test.cpp: shapes, module texts, the pipeline cache, the recorder and a device's failures, on
// small kernels of its own.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <thread>

#include "base/test_errors.hpp"
#include "base/test_files.hpp"
#include "gpu/blob_cache.hpp"
#include "gpu/device.hpp"

namespace ms::gpu {

namespace {

// y = x + PLUS, with every kind of constant. Another kernel, `multiply`, has the same interface.
struct Add {
  struct Overrides {
    uint32_t workgroup_size = 64;
    uint32_t plus = 1;
    uint32_t times = 1;

    void visit(auto&& v) {
      v("WORKGROUP_SIZE", workgroup_size, {64u, 32u});
      v("PLUS", plus, {1u, 2u});
      v("TIMES", times, {1u, 2u}, in_prelude);
    }
    std::string_view refusal() const { return plus == 13 ? "13 is not added" : ""; }
  };
  struct Params {
    uint32_t size;
  };
};

constexpr std::string_view add_wgsl = R"(// add.wgsl: y = (x + PLUS) * TIMES.
#import interface
override WORKGROUP_SIZE: u32 = 64;
override PLUS: u32 = 1;
@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.size) { y[id.x] = (x[id.x] + PLUS) * TIMES; }
}
@compute @workgroup_size(WORKGROUP_SIZE)
fn zero(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.size) { y[id.x] = x[id.x] * 0 * PLUS * TIMES; }
}
)";
constexpr std::string_view multiply_wgsl = R"(#import interface
override WORKGROUP_SIZE: u32 = 64;
override PLUS: u32 = 1;
@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  if (id.x < params.size) { y[id.x] = x[id.x] * PLUS * TIMES; }
}
)";
constexpr std::string_view interface_wgsl = R"(
struct Params { size: u32 }
@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<u32>;
)";
constexpr std::string_view broken_wgsl = R"(#import interface
override WORKGROUP_SIZE: u32 = 64;
override PLUS: u32 = 1;
@compute @workgroup_size(WORKGROUP_SIZE)
fn main() { y[0] = undeclared_name; }
)";
constexpr std::string_view slow_wgsl = R"(#import interface
override WORKGROUP_SIZE: u32 = 64;
override PLUS: u32 = 1;
@compute @workgroup_size(WORKGROUP_SIZE)
fn main(@builtin(global_invocation_id) id: vec3u) {
  var v = x[id.x];
  for (var i = 0u; i < params.size; i++) { v = v * 1664525 + PLUS; }
  y[id.x] = v;
}
)";

constexpr WgslSource sources[] = {{"add", add_wgsl},
                                  {"broken", broken_wgsl},
                                  {"interface", interface_wgsl},
                                  {"multiply", multiply_wgsl},
                                  {"slow", slow_wgsl}};

void no_twin(const HostDispatch&) {}

const Kernel add_kernel = kernel<Add>("add", {in, out}, no_twin);
const Kernel multiply_kernel = kernel<Add>("multiply", {in, out}, no_twin);
const Kernel broken_kernel = kernel<Add>("broken", {in, out}, no_twin);
const Kernel slow_kernel = kernel<Add>("slow", {in, out}, no_twin);
const Kernel nine_kernel = kernel<Add>("add", std::vector<Access>(9, in), no_twin);

std::unique_ptr<Device> open(std::filesystem::path cache = {}, Tier tier = Tier::best) {
  return Device::open({.tier = tier, .cache = std::move(cache), .sources = sources});
}

Dispatch dispatch(const Kernel& kernel, View x, View y, Add::Overrides over = {}) {
  return {.kernel = &kernel,
          .constants = constants(over),
          .bindings = {x, y},
          .params = bytes(Add::Params{uint32_t(y.size())}),
          .grid = fold((y.size() + over.workgroup_size - 1) / over.workgroup_size)};
}

// A dispatch that is compiled only.
Dispatch compiled(const Kernel& kernel, Add::Overrides over = {}) {
  return {.kernel = &kernel,
          .constants = constants(over),
          .bindings = {},
          .params = bytes(Add::Params{})};
}

std::vector<std::byte> words(std::vector<uint32_t> values) {
  const auto view = std::as_bytes(std::span(values));
  return {view.begin(), view.end()};
}

std::string refusal_of(const std::function<void()>& run) {
  return message_of<std::invalid_argument>(run);
}

std::vector<std::filesystem::path> files(const TemporaryFolder& folder) {
  std::vector<std::filesystem::path> result;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path()))
    result.push_back(entry.path());
  return result;
}

void overwrite(const std::filesystem::path& path, std::string_view text) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(text.data(), std::streamsize(text.size()));
}

}  // namespace

// Shapes and views.

TEST(Shape, a_shape_has_a_size_and_a_text) {
  EXPECT_EQ(Shape({3, 64}).size(), 192u);
  EXPECT_EQ(Shape().size(), 1u);
  EXPECT_EQ(Shape({5, 0}).size(), 0u);
  EXPECT_EQ(to_string(Shape({3, 64})), "[3, 64]");
}

TEST(Shape, an_extent_beyond_32_bits_is_refused) {
  EXPECT_SAYS(refusal_of([] { Shape({1, 1ull << 32}); }), "4294967296");
  EXPECT_NO_THROW(Shape({1, (1ull << 32) - 1}));
}

TEST(Shape, more_than_four_extents_are_refused) {
  EXPECT_SAYS(refusal_of([] { Shape({1, 1, 1, 1, 1}); }), "at most 4");
}

TEST(Shape, a_size_that_would_wrap_is_refused) {
  const uint64_t most = UINT32_MAX;
  EXPECT_SAYS(refusal_of([=] {
                Shape({most, most, most});
              }),
              "[4294967295, 4294967295, 4294967295]");
}

TEST(View, rows_are_the_product_of_the_outer_extents) {
  const View view{.scratch = 1, .shape = {2, 3, 5}};
  EXPECT_EQ(view.rows(), 6u);
  EXPECT_EQ(view.cols(), 5u);
  EXPECT_EQ(view.bytes(), 120u);
  EXPECT_EQ((View{.scratch = 1, .shape = {2, 3}, .type = Type::f16}.bytes()), 12u);
  EXPECT_THROW((View{.scratch = 1, .shape = {1u << 20, 1u << 20, 1}}.rows()),
               std::invalid_argument);
}

TEST(View, another_shape_must_have_as_many_elements) {
  const View view{.scratch = 1, .shape = {2, 6}};
  EXPECT_EQ(view.as({3, 4}).shape, Shape({3, 4}));
  EXPECT_SAYS(refusal_of([&] { view.as({3, 5}); }), "[2, 6] f32 cannot be seen as [3, 5]");
}

TEST(View, a_slice_lies_within_its_view) {
  const View view{.scratch = 1, .offset = 256, .shape = {10, 64}, .type = Type::f16};
  EXPECT_EQ(view.slice(128, {8, 64}).offset, 512u);
  EXPECT_SAYS(refusal_of([&] { view.slice(129, {8, 64}); }), "outside [10, 64] f16");
  EXPECT_THROW(view.slice(UINT64_MAX, {2}), std::invalid_argument);
}

TEST(Fold, every_group_is_there_and_no_dimension_is_too_wide) {
  for (const uint64_t groups :
       {0ull, 1ull, 65535ull, 65536ull, 65537ull, 131071ull, 4'000'000'000ull, 65535ull * 65535}) {
    const Grid grid = fold(groups);
    EXPECT_LE(grid[0], 65535u) << groups;
    EXPECT_LE(grid[1], 65535u) << groups;
    EXPECT_GE(uint64_t(grid[0]) * grid[1], groups);
    EXPECT_LT(uint64_t(grid[0]) * grid[1], groups + std::max(1u, grid[1])) << groups;
  }
  EXPECT_THROW(fold(65535ull * 65535 + 1), std::invalid_argument);
  EXPECT_THROW(fold(UINT64_MAX), std::invalid_argument);
}

// Constants.

namespace {

struct Three {
  struct Overrides {
    bool a = false, b = false;
    uint32_t size = 1;

    void visit(auto&& v) {
      v("A", a, {false, true});
      v("B", b, {false, true});
      v("SIZE", size, {1u, 2u, 3u, 4u}, sizing);
    }
    std::string_view refusal() const { return a && b ? "A and B" : ""; }
  };
  struct Params {
    uint32_t n;
  };
};

}  // namespace

TEST(Constants, every_gives_all_combinations_but_the_refused) {
  const Kernel three = kernel<Three>("three", {}, no_twin);
  EXPECT_EQ(every(three, true).size(), 12u);
  // Not the product, but each value of each.
  const auto some = every(three);
  EXPECT_LT(some.size(), 12u);
  for (size_t i = 0; i < 3; ++i)
    for (const double value : three.constants[i].values)
      EXPECT_TRUE(std::any_of(some.begin(), some.end(),
                              [&](const Constants& c) { return c[i].value == value; }))
          << i << " " << value;
  EXPECT_EQ(to_string(some.front()), "A=false B=false SIZE=1");
}

namespace {

struct Many {
  struct Overrides {
    uint32_t type = 0;
    bool a = false, b = false, c = false;

    void visit(auto&& v) {
      v("A", a, {false, true});
      v("TYPE", type, {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, 10u, 11u});
      v("B", b, {false, true});
      v("C", c, {false, true});
    }
    std::string_view refusal() const { return type == 9 && !(a && b) ? "9 takes both" : ""; }
  };
  struct Params {
    uint32_t n;
  };
};

}  // namespace

namespace {

struct Ranged {
  struct Overrides {
    uint32_t size = 64, lanes = 2, rows = 3, type = 5;
    bool wide = false;

    void visit(auto&& v) {
      v("SIZE", size, {64u, 256u}, sizing);
      v("LANES", lanes, {2u, 1u}, in_prelude.powers_to(1, 8));
      v("ROWS", rows, {3u, 4u}, sizing.to(2, 5));
      v("TYPE", type, {5u, 7u});
      v("WIDE", wide, {false, true}, sizing);
    }
    std::string_view refusal() const { return wide && lanes == 1 ? "WIDE takes lanes" : ""; }
  };
  struct Params {
    uint32_t n;
  };
};

}  // namespace

TEST(Constants, may_be_what_is_listed_or_sizes_between) {
  const Kernel ranged = kernel<Ranged>("ranged", {}, no_twin);
  const auto legal = [&](size_t i) { return ranged.constants[i].legal(); };
  EXPECT_EQ(legal(0), "64 to 256, powers of two");
  EXPECT_EQ(legal(1), "1 to 8, powers of two");
  EXPECT_EQ(legal(2), "2 to 5");
  EXPECT_EQ(legal(3), "5, 7");
  EXPECT_EQ(legal(4), "false, true");
  EXPECT_EQ(ranged.constants[1].legal_values(), (std::vector<double>{1, 2, 4, 8}));
  const auto refusal = [&](Ranged::Overrides over) {
    return refusal_of([&] { check(ranged, over); });
  };
  EXPECT_NO_THROW(check(ranged, Ranged::Overrides{}));
  EXPECT_NO_THROW(check(ranged, Ranged::Overrides{128, 8, 5, 7, true}));
  EXPECT_EQ(refusal({.size = 0}), "ranged: SIZE is 0; it may be 64 to 256, powers of two");
  EXPECT_SAYS(refusal({.size = 96}), "SIZE is 96");
  EXPECT_SAYS(refusal({.lanes = 16}), "LANES is 16");
  EXPECT_SAYS(refusal({.rows = 1}), "ROWS is 1; it may be 2 to 5");
  EXPECT_SAYS(refusal({.type = 6}), "TYPE is 6; it may be 5, 7");
  EXPECT_SAYS(refusal({.lanes = 1, .wide = true}), "WIDE takes lanes");
}

namespace {

struct Single {
  struct Overrides {
    uint32_t type = 1;
    bool a = false, b = false;

    void visit(auto&& v) {
      v("TYPE", type, {1u, 2u, 3u}, singly);
      v("A", a, {false, true});
      v("B", b, {false, true});
    }
    std::string_view refusal() const { return ""; }
  };
  struct Params {
    uint32_t n;
  };
};

}  // namespace

TEST(Constants, marked_singly_meet_every_combination_with_their_first_value_alone) {
  const Kernel single = kernel<Single>("single", {}, no_twin);
  EXPECT_FALSE(single.constants[0].sizing);
  EXPECT_EQ(single.constants[0].legal(), "1, 2, 3");
  EXPECT_EQ(every(single, true).size(), 12u);
  std::map<double, size_t> combinations;
  for (const Constants& c : every(single)) ++combinations[c[0].value];
  EXPECT_EQ(combinations[1], 4u);
  EXPECT_EQ(combinations[2], 2u);
  EXPECT_EQ(combinations[3], 2u);
}

TEST(Constants, of_many_values_those_beyond_the_fourth_meet_some_of_the_others) {
  const Kernel many = kernel<Many>("many", {}, no_twin);
  EXPECT_EQ(every(many, true).size(), 90u);
  std::map<double, size_t> combinations;
  for (const Constants& c : every(many)) ++combinations[c[1].value];
  for (uint32_t type = 0; type < 4; ++type) EXPECT_EQ(combinations[type], 8u) << type;
  EXPECT_EQ(combinations[9], 1u);
  for (uint32_t type : {4u, 5u, 6u, 7u, 8u, 10u, 11u}) {
    EXPECT_GE(combinations[type], 2u) << type;
    EXPECT_LE(combinations[type], 3u) << type;
  }
}

// Module texts.

TEST(Compose, what_is_imported_is_pasted_once_behind_the_file) {
  const WgslSource texts[] = {{"a", "// file\n#import b\n#import c\nfn a() {}\n"},
                              {"b", "#import c\nfn b() {}\n"},
                              {"c", "fn c() {}"}};
  EXPECT_EQ(compose(texts, "a", {}, {}), "// file\n\n\nfn a() {}\n\nfn b() {}\nfn c() {}\n");
}

TEST(Compose, an_import_that_imports_its_importer_ends) {
  const WgslSource texts[] = {
      {"a", "#import b\n"}, {"b", "#import c\nfn b() {}\n"}, {"c", "#import b\nfn c() {}\n"}};
  EXPECT_EQ(compose(texts, "a", {}, {}), "\n\nfn b() {}\n\nfn c() {}\n");
}

TEST(Compose, an_import_has_the_form_of_the_variant) {
  const WgslSource texts[] = {{"a", "#import b\n"},
                              {"b.portable", "fn portable() {}\n"},
                              {"b.subgroups", "fn native() {}\n"}};
  const Variant matrices{.subgroups = true, .f16 = true, .matrix = true};
  EXPECT_SAYS(compose(texts, "a", {}, {}), "fn portable");
  EXPECT_SAYS(compose(texts, "a", {.subgroups = true}, {}), "fn native");
  EXPECT_SAYS(compose(texts, "a", matrices, {}), "fn native");
  const WgslSource others[] = {{"a", "#import b\n"},
                               {"b.portable", "fn portable() {}\n"},
                               {"b.matrix", "fn matrices() {}\n"}};
  EXPECT_SAYS(compose(others, "a", {.subgroups = true}, {}), "fn portable");
  EXPECT_SAYS(compose(others, "a", matrices, {}), "fn matrices");
  const WgslSource sized[] = {{"a", "#import b\n"},
                              {"b.portable", "fn portable() {}\n"},
                              {"b.subgroups", "fn native() {}\n"},
                              {"b.fixed", "fn fixed() {}\n"}};
  EXPECT_SAYS(compose(sized, "a", matrices, {}), "fn native");
  const std::string fixed = compose(sized, "a", {.subgroups = true, .subgroup_size = 8}, {});
  EXPECT_SAYS(fixed, "const SUBGROUP_SIZE = 8u;");
  EXPECT_SAYS(fixed, "fn fixed");
}

TEST(Compose, a_missing_text_is_named) {
  const WgslSource texts[] = {{"a", "#import b\n"}};
  EXPECT_SAYS(refusal_of([&] { compose(texts, "a", {}, {}); }),
              "neither b.wgsl nor b.portable.wgsl");
  EXPECT_SAYS(refusal_of([&] { compose(texts, "x", {}, {}); }), "no kernel x.wgsl");
}

TEST(Compose, directives_and_constants_come_first) {
  const WgslSource texts[] = {{"a", "fn a() {}\n"}};
  const Constants constants = {{"FLAG", 1, 'b', true},
                               {"SIZE", 4, 'u', true},
                               {"SHIFT", -2, 'i', true},
                               {"RATIO", 1, 'f', true},
                               {"LATER", 7, 'u', false}};
  EXPECT_EQ(compose(texts, "a", {.subgroups = true, .f16 = true}, constants),
            "enable subgroups;\nenable f16;\ndiagnostic(off, subgroup_uniformity);\n"
            "const FLAG: bool = true;\nconst SIZE: u32 = 4;\nconst SHIFT: i32 = -2;\nconst RATIO: "
            "f32 = 1.0;\nfn a() {}\n");
  EXPECT_EQ(compose(texts, "a", {}, {}), "fn a() {}\n");
  EXPECT_EQ(compose(texts, "a", {.subgroups = true, .f16 = true, .matrix = true}, {}),
            "enable subgroups;\nenable f16;\nenable chromium_experimental_subgroup_matrix;\n"
            "diagnostic(off, subgroup_uniformity);\n"
            "diagnostic(off, chromium.subgroup_matrix_uniformity);\nfn a() {}\n");
}

TEST(Tier, an_unknown_name_is_answered_with_the_known) {
  EXPECT_EQ(tier_by_name("f16"), Tier::f16);
  EXPECT_SAYS(refusal_of([] { tier_by_name("fast"); }), "best, portable, subgroups, f16 or matrix");
}

// The pipeline cache.

TEST(Pipelines, an_equal_key_gives_the_same_pipeline) {
  const auto device = open();
  auto* const first = device->pipeline(compiled(add_kernel));
  EXPECT_NE(first, nullptr);
  EXPECT_EQ(device->pipeline(compiled(add_kernel)), first);
  EXPECT_EQ(device->counts().pipelines, 1u);
}

TEST(Pipelines, any_part_of_the_key_that_differs_gives_another) {
  const auto device = open();
  Dispatch zero = compiled(add_kernel);
  zero.entry = "zero";
  const std::vector<Dispatch> dispatches = {compiled(add_kernel),
                                            compiled(multiply_kernel),
                                            zero,
                                            compiled(add_kernel, {.workgroup_size = 32}),
                                            compiled(add_kernel, {.plus = 2}),
                                            compiled(add_kernel, {.times = 2})};
  std::set<WGPUComputePipelineImpl*> pipelines;
  for (const Dispatch& d : dispatches) pipelines.insert(device->pipeline(d));
  EXPECT_EQ(pipelines.size(), dispatches.size());
  EXPECT_EQ(device->counts().pipelines, dispatches.size());
}

TEST(Pipelines, threads_that_ask_at_once_wait_for_one_compile) {
  const auto device = open();
  std::vector<WGPUComputePipelineImpl*> got(8);
  {
    std::vector<std::jthread> threads;
    for (auto& pipeline : got)
      threads.emplace_back([&] { pipeline = device->pipeline(compiled(add_kernel)); });
  }
  for (auto* pipeline : got) EXPECT_EQ(pipeline, got[0]);
  EXPECT_EQ(device->counts().pipelines, 1u);
}

TEST(Pipelines, threads_may_compile_different_kernels_at_once) {
  const auto device = open();
  std::vector<std::jthread> threads;
  for (uint32_t plus = 100; plus < 104; ++plus)
    threads.emplace_back([&, plus] {
      for (uint32_t i = 0; i < 4; ++i)
        EXPECT_NE(
            device->pipeline(compiled(i % 2 ? add_kernel : multiply_kernel, {.plus = plus + i})),
            nullptr);
    });
  threads.clear();
  EXPECT_EQ(device->counts().pipelines, 12u);  // multiply with 100 to 105, add with 101 to 106
}

TEST(Pipelines, a_text_that_does_not_compile_is_told_with_kernel_constants_and_line) {
  const auto device = open();
  const auto error = device->compile_error(compiled(broken_kernel, {.plus = 7}));
  ASSERT_TRUE(error);
  EXPECT_SAYS(*error, "broken");
  EXPECT_SAYS(*error, "PLUS=7");
  EXPECT_SAYS(*error, "fn main() { y[0] = undeclared_name; }");
  EXPECT_SAYS(*error, "line ");
}

TEST(Pipelines, constants_that_do_not_compile_are_told_with_the_kernel) {
  const auto device = open();
  const auto error = device->compile_error(compiled(add_kernel, {.workgroup_size = 1 << 20}));
  ASSERT_TRUE(error);
  EXPECT_SAYS(*error, "add WORKGROUP_SIZE=1048576 PLUS=1 TIMES=1");
  EXPECT_SAYS(*error, "1048576");
}

TEST(Pipelines, a_device_may_go_while_a_compile_thread_ends) {
  for (int i = 0; i < 30; ++i)  // it used to end the process now and then
    EXPECT_TRUE(open()->compile_error(compiled(add_kernel, {.workgroup_size = 1 << 20})));
}

TEST(Pipelines, a_failed_compile_is_not_cached) {
  const auto device = open();
  for (const Dispatch& d :
       {compiled(broken_kernel), compiled(add_kernel, {.workgroup_size = 1 << 20})}) {
    const auto first = device->compile_error(d);
    const uint64_t before = device->counts().pipelines;
    EXPECT_EQ(device->compile_error(d), first);
    // Compiled again; the broken text does not get so far.
    EXPECT_EQ(device->counts().pipelines, d.kernel == &add_kernel ? before + 1 : before);
  }
  EXPECT_FALSE(device->compile_error(compiled(add_kernel)));
  EXPECT_NO_THROW(device->finish());  // and no error is left behind
}

TEST(Pipelines, one_that_fails_does_not_take_others_of_its_request_along) {
  const auto device = open();
  const BufferPtr x = device->buffer(256, "x"), y = device->buffer(256, "y");
  const View in_view = view(x, {4}, Type::u32), out_view = view(y, {4}, Type::u32);
  Work work = dispatch(add_kernel, in_view, out_view);
  work += dispatch(add_kernel, in_view, out_view, {.workgroup_size = 1 << 20});
  EXPECT_SAYS(message_of<Error>([&] { device->record(work); }), "WORKGROUP_SIZE=1048576");
  const uint64_t before = device->counts().pipelines;
  device->record(dispatch(add_kernel, in_view, out_view));
  EXPECT_EQ(device->counts().pipelines, before);
}

TEST(Pipelines, that_are_begun_are_not_compiled_again) {
  const auto device = open();
  const BufferPtr x = device->buffer(256, "x"), y = device->buffer(256, "y");
  const Work work =
      dispatch(add_kernel, view(x, {4}, Type::u32), view(y, {4}, Type::u32), {.plus = 10});
  device->prepare(work);
  device->prepare(work);
  EXPECT_EQ(device->counts().pipelines, 1u);
  device->write(*x, 0, words({1, 2, 3, 4}));
  device->submit(device->record(work));
  EXPECT_EQ(device->counts().pipelines, 1u);
  EXPECT_EQ(device->read(*y, 0, 16), words({11, 12, 13, 14}));
  device->prepare(dispatch(add_kernel, view(x, {4}, Type::u32), view(y, {4}, Type::u32),
                           {.plus = 11}));  // and it may end before that is ready
}

TEST(Pipelines, progress_counts_to_all) {
  const auto device = open();
  const BufferPtr x = device->buffer(256, "x"), y = device->buffer(256, "y");
  Work work;
  for (uint32_t plus = 1; plus <= 3; ++plus)
    work += dispatch(add_kernel, view(x, {4}, Type::u32), view(y, {4}, Type::u32), {.plus = plus});
  std::vector<size_t> told;
  device->record(work, [&](size_t done, size_t all) {
    EXPECT_EQ(all, 3u);
    told.push_back(done);
  });
  EXPECT_EQ(told, (std::vector<size_t>{1, 2, 3}));
}

// The blob cache.

TEST(BlobCache, what_was_stored_is_loaded) {
  const TemporaryFolder folder;
  const std::vector<uint8_t> key = {1, 2, 3}, value(1000, 7);
  BlobCache(folder.path()).store(key, value);
  EXPECT_EQ(BlobCache(folder.path()).load(key), value);
  EXPECT_TRUE(BlobCache(folder.path()).load(std::vector<uint8_t>{1, 2}).empty());
  EXPECT_EQ(files(folder).size(), 1u);  // nothing half written is left
}

TEST(BlobCache, a_damaged_or_foreign_file_is_ignored) {
  const TemporaryFolder folder;
  const BlobCache cache(folder.path());
  const std::vector<uint8_t> key = {1, 2, 3}, value(100, 7), other_key = {9};
  cache.store(key, value);
  const auto path = files(folder).at(0);
  const std::string good = read_file(path);
  for (size_t i = 0; i < good.size(); ++i) {  // every byte counts
    std::string bad = good;
    bad[i] = char(bad[i] ^ 0x40);
    overwrite(path, bad);
    ASSERT_TRUE(cache.load(key).empty()) << "byte " << i;
  }
  for (const size_t length :
       {size_t(0), size_t(7), size_t(31), size_t(32), size_t(33), good.size() - 1}) {
    overwrite(path, good.substr(0, length));
    EXPECT_TRUE(cache.load(key).empty()) << length << " bytes";
  }
  overwrite(path, good + "x");
  EXPECT_TRUE(cache.load(key).empty());
  // A whole blob, of another key: as if two keys had one name.
  cache.store(other_key, value);
  for (const auto& file : files(folder))
    if (file != path)
      std::filesystem::copy_file(file, path, std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(cache.load(key).empty());
  overwrite(path, good);
  EXPECT_EQ(cache.load(key), value);
}

TEST(BlobCache, a_folder_that_cannot_be_is_no_cache) {
  const TemporaryFolder folder;
  overwrite(folder.path() / "file", "x");
  for (const auto& path :
       {folder.path() / "file", folder.path() / "file" / "below", std::filesystem::path()}) {
    const BlobCache cache(path);
    const std::vector<uint8_t> key = {1}, value = {2};
    cache.store(key, value);
    EXPECT_TRUE(cache.load(key).empty());
  }
  EXPECT_EQ(read_file(folder.path() / "file"), "x");
}

TEST(BlobCache, the_second_start_loads_and_a_spoilt_cache_does_no_harm) {
  const TemporaryFolder folder;
  const auto run = [&] {
    const auto device = open(folder.path());
    const BufferPtr x = device->buffer(256, "x"), y = device->buffer(256, "y");
    device->write(*x, 0, words({1, 2, 3, 4}));
    device->submit(device->record(
        dispatch(add_kernel, view(x, {4}, Type::u32), view(y, {4}, Type::u32), {.plus = 10})));
    EXPECT_EQ(device->read(*y, 0, 16), words({11, 12, 13, 14}));
  };
  const auto state = [&] {
    std::map<std::filesystem::path, std::pair<std::string, std::filesystem::file_time_type>> result;
    for (const auto& file : files(folder))
      result[file] = {read_file(file), std::filesystem::last_write_time(file)};
    return result;
  };
  run();
  const auto first = state();
  ASSERT_FALSE(first.empty());
  run();
  EXPECT_EQ(state(), first);  // everything was found: nothing was stored again

  for (const auto& file : files(folder)) overwrite(file, "not a blob");
  run();
  const auto repaired = state();
  ASSERT_EQ(repaired.size(), first.size());
  for (const auto& [file, kept] : first) EXPECT_NE(repaired.at(file).first, "not a blob");
}

// The recorder.

class Recorder : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_NO_THROW(device->finish());
  }  // what is refused leaves no error behind

  std::unique_ptr<Device> device = open({}, Tier::portable);
  BufferPtr x = device->buffer(4096, "x"), y = device->buffer(4096, "y");
  View in_view = view(x, {64}, Type::u32), out_view = view(y, {64}, Type::u32);
};

TEST_F(Recorder, records_what_is_right) {
  device->write(*x, 0, words({5}));
  device->submit(device->record(dispatch(add_kernel, in_view, out_view)));
  EXPECT_EQ(device->read(*y, 0, 8), words({6, 1}));
}

TEST_F(Recorder, one_buffer_read_and_written_is_refused) {
  const View behind = view(y, {128}, Type::u32).slice(64, {64});
  EXPECT_SAYS(refusal_of([&] { device->record(dispatch(add_kernel, behind, out_view)); }),
              "bindings 1 and 2 read and write one buffer, y");
}

TEST_F(Recorder, ranges_that_are_written_twice_are_refused) {
  static const Kernel two = kernel<Add>("add", {out, out}, no_twin);
  const View whole = view(y, {128}, Type::u32);
  EXPECT_SAYS(refusal_of([&] { device->record(dispatch(two, whole, whole.slice(64, {64}))); }),
              "bindings 1 and 2 write the same bytes of y");
}

TEST_F(Recorder, a_misaligned_view_is_refused) {
  const View odd = view(x, {128}, Type::u32).slice(3, {64});
  EXPECT_SAYS(refusal_of([&] { device->record(dispatch(add_kernel, odd, out_view)); }),
              "starts at byte 12 of x, not a multiple of 256");
}

TEST_F(Recorder, a_view_beyond_its_buffer_is_refused) {
  View wide = in_view;
  wide.shape = {1025};
  EXPECT_SAYS(refusal_of([&] { device->record(dispatch(add_kernel, wide, out_view)); }),
              "ends at byte 4112 of x, which has 4096");
}

TEST_F(Recorder, a_binding_beyond_the_limit_is_refused) {
  const uint64_t most = device->caps().max_binding_bytes;
  const BufferPtr large = device->buffer(most + 256, "large");
  EXPECT_NO_THROW(
      device->record(dispatch(add_kernel, view(large, {most / 4}, Type::u32), out_view)));
  EXPECT_SAYS(
      refusal_of([&] {
        device->record(dispatch(add_kernel, view(large, {most / 4 + 1}, Type::u32), out_view));
      }),
      fmt::format("a binding of this device holds {}", most));
}

TEST_F(Recorder, more_storage_buffers_than_the_device_has_are_refused) {
  Dispatch d = compiled(nine_kernel);
  d.bindings.resize(9, in_view);
  EXPECT_SAYS(refusal_of([&] { device->record(d); }), "9 storage buffers; this device allows 8");
}

TEST_F(Recorder, bindings_params_and_constants_must_be_the_kernels) {
  Dispatch d = dispatch(add_kernel, in_view, out_view);
  d.bindings.pop_back();
  EXPECT_SAYS(refusal_of([&] { device->record(d); }), "1 bindings given, the kernel has 2");
  d = dispatch(add_kernel, in_view, out_view);
  d.params.resize(8);
  EXPECT_SAYS(refusal_of([&] { device->record(d); }), "8 bytes of params, the kernel has 4");
  d = dispatch(add_kernel, in_view, out_view, {.plus = 13});
  EXPECT_SAYS(refusal_of([&] { device->record(d); }), "13 is not added");
}

TEST_F(Recorder, a_grid_beyond_the_limit_is_refused) {
  Dispatch d = dispatch(add_kernel, in_view, out_view);
  d.grid = {1, 65536, 1};
  EXPECT_SAYS(refusal_of([&] { device->record(d); }), "65536 workgroups in a dimension");
}

TEST_F(Recorder, an_empty_grid_does_nothing) {
  Dispatch d = dispatch(add_kernel, in_view, out_view);
  d.grid = {0, 1, 1};
  device->submit(device->record(d));
  EXPECT_EQ(device->read(*y, 0, 4), words({0}));
}

TEST(Device, absent_bindings_get_stand_ins) {
  static constexpr WgslSource texts[] = {{"unbound", R"(override WORKGROUP_SIZE: u32 = 64;
override PLUS: u32 = 1;
@compute @workgroup_size(WORKGROUP_SIZE) fn main() { _ = PLUS * TIMES; }
)"}};
  for (const Tier tier : {Tier::portable, Tier::best}) {
    const auto device = Device::open({.tier = tier, .sources = texts});
    // As many as the device has, all of them written: no two may share bytes.
    const Kernel all = kernel<Add>(
        "unbound", std::vector<Access>(device->caps().max_storage_buffers, out), no_twin);
    Dispatch d = compiled(all);
    d.bindings.resize(all.bindings.size());
    EXPECT_NO_THROW(device->submit(device->record(d)));
    EXPECT_NO_THROW(device->finish());
  }
}

TEST_F(Recorder, scratch_is_placed_and_passed_on) {
  Work work;
  const View between = work.add_scratch({64}, Type::u32);
  work.dispatches.push_back(dispatch(add_kernel, in_view, between, {.plus = 5}));
  work.dispatches.push_back(dispatch(add_kernel, between, out_view, {.plus = 7}));
  const Recording recording = device->record(work);
  device->submit(recording);
  EXPECT_EQ(device->read(*y, 0, 4), words({12}));
}

TEST_F(Recorder, scratch_whose_use_is_over_leaves_its_place) {
  Work work;
  const View first = work.add_scratch({64}, Type::u32), second = work.add_scratch({640}, Type::u32),
             third = work.add_scratch({6400}, Type::u32), unused = work.add_scratch({1 << 20});
  EXPECT_EQ(unused.scratch, 4u);
  work.dispatches.push_back(dispatch(add_kernel, in_view, first, {.plus = 1}));
  work.dispatches.push_back(dispatch(add_kernel, first, second, {.plus = 2}));
  work.dispatches.push_back(dispatch(add_kernel, second, third, {.plus = 4}));
  work.dispatches.push_back(dispatch(add_kernel, third, out_view, {.plus = 8}));
  const Recording recording = device->record(work);
  const auto written = [&](size_t i) { return recording.dispatches()[i].bindings[1].buffer; };
  EXPECT_NE(written(0), written(1));
  EXPECT_EQ(written(0), written(2));
  EXPECT_EQ(written(0)->bytes, 25600u);
  EXPECT_EQ(written(1)->bytes, 2560u);
  device->submit(recording);
  EXPECT_EQ(device->read(*y, 0, 4), words({15}));
}

TEST_F(Recorder, a_step_that_is_submitted_again_costs_no_call_but_the_submit) {
  Work work;
  for (int i = 0; i < 10; ++i)
    work += dispatch(add_kernel, i % 2 ? out_view : in_view, i % 2 ? in_view : out_view);
  const Recording step = device->record(work);
  device->submit(step);
  const Counts before = device->counts();
  for (int i = 0; i < 100; ++i) device->submit(step);
  const Counts after = device->counts();
  EXPECT_EQ(after.submits, before.submits + 100);
  EXPECT_EQ(after.buffers, before.buffers);
  EXPECT_EQ(after.bind_groups, before.bind_groups);
  EXPECT_EQ(after.buffer_writes, before.buffer_writes);
  EXPECT_EQ(after.waits, before.waits);
  EXPECT_EQ(after.pipelines, before.pipelines);
}

TEST_F(Recorder, tokens_come_back_while_later_steps_run) {
  // x[0] + 1 -> y[0] -> x[0]: a step counts by two.
  Work work = dispatch(add_kernel, in_view, out_view);
  work += dispatch(add_kernel, out_view, in_view);
  const Recording step = device->record(work);
  const View token = view(x, {1}, Type::u32);
  std::vector<Ticket> ahead;
  for (int i = 0; i < 3; ++i) ahead.push_back(device->submit(step, token));
  Counts before = device->counts();
  for (uint32_t i = 0; i < 50; ++i) {
    EXPECT_EQ(device->wait(ahead[i]), words({2 * (i + 1)}));
    ahead.push_back(device->submit(step, token));
    if (i == 2) before = device->counts();  // the copies' buffers are there by now
  }
  EXPECT_EQ(device->counts().buffers, before.buffers);
  EXPECT_EQ(device->counts().bind_groups, before.bind_groups);
  EXPECT_EQ(device->counts().buffer_writes, before.buffer_writes);
  EXPECT_EQ(device->counts().waits, before.waits + 47);  // one a token, for the token
  EXPECT_EQ(device->wait(ahead[52]), words({106}));      // in any order
  EXPECT_EQ(device->wait(ahead[50]), words({102}));
  EXPECT_SAYS(refusal_of([&] { device->wait(ahead[50]); }), "is not pending");
  device->wait(ahead[51]);
  // Several in one submission, each with what was there after it.
  before = device->counts();
  EXPECT_EQ(device->wait(device->submit(step, token, 3)), words({108, 110, 112}));
  EXPECT_EQ(device->counts().submits, before.submits + 1);
  EXPECT_EQ(device->counts().buffers, before.buffers);
  // The memory that they came back in is there for others, all of it.
  for (uint32_t i = 0; i < 3; ++i) ahead.push_back(device->submit(step, token));
  for (uint32_t i = 53; i < 56; ++i) device->wait(ahead[i]);
  EXPECT_EQ(device->counts().buffers, before.buffers);
}

TEST_F(Recorder, reads_and_writes_keep_within_the_buffer) {
  for (const uint64_t offset : {uint64_t(4096), UINT64_MAX - 3})
    EXPECT_THROW(device->write(*x, offset, words({1})), std::invalid_argument);
  EXPECT_THROW(device->write(*x, 2, words({1})), std::invalid_argument);
  EXPECT_THROW(device->write(*x, 0, std::vector<std::byte>(3)), std::invalid_argument);
  EXPECT_THROW(device->read(*x, 4096, 1), std::invalid_argument);
  EXPECT_THROW(device->read(*x, UINT64_MAX - 3, 8), std::invalid_argument);
  EXPECT_THROW(device->read(*x, 0, UINT64_MAX), std::invalid_argument);
  EXPECT_THROW(device->submit(device->record(dispatch(add_kernel, in_view, out_view)),
                              view(x, {2000}, Type::u32)),
               std::invalid_argument);
  EXPECT_SAYS(refusal_of([&] {
                device->submit(device->record(dispatch(add_kernel, in_view, out_view)),
                               view(x, {3}, Type::f16));
              }),
              "6 bytes to read back are not whole words");
  EXPECT_EQ(device->read(*x, 4092, 3).size(), 3u);
  EXPECT_TRUE(device->read(*x, 4096, 0).empty());
}

TEST_F(Recorder, uploads_arrive_however_many_are_on_their_way) {
  constexpr uint32_t rounds = 16;  // of more pieces than there are
  {
    Uploads uploads(*device, 256);
    for (uint32_t round = 0; round < rounds; ++round) {
      const std::span<std::byte> room = uploads.room(252);
      for (uint32_t i = 0; i < 63; ++i) {
        const uint32_t value = 1000 * round + i;
        std::memcpy(&room[4 * i], &value, 4);
      }
      const Uploads::Part parts[] = {{0, x.get(), 8 * round, 8}, {248, y.get(), 4 * round, 4}};
      uploads.send(parts);
    }
  }
  std::vector<uint32_t> first, last;
  for (uint32_t round = 0; round < rounds; ++round) {
    first.insert(first.end(), {1000 * round, 1000 * round + 1});
    last.push_back(1000 * round + 62);
  }
  EXPECT_EQ(device->read(*x, 0, 8 * rounds), words(first));
  EXPECT_EQ(device->read(*y, 0, 4 * rounds), words(last));
}

TEST_F(Recorder, uploads_keep_within_the_piece_and_the_buffer) {
  EXPECT_SAYS(refusal_of([&] { Uploads(*device, 0); }), "by 0 bytes");
  EXPECT_SAYS(refusal_of([&] { Uploads(*device, 6); }), "whole words");
  Uploads uploads(*device, 256);
  EXPECT_SAYS(refusal_of([&] { uploads.room(257); }), "257 bytes to upload at once");
  const auto refuses = [&](std::string_view what, Uploads::Part part) {
    EXPECT_SAYS(refusal_of([&] { uploads.send(std::span(&part, 1)); }), what);
  };
  uploads.room(256);
  refuses("not of whole words", {2, x.get(), 0, 4});
  refuses("not of whole words", {0, x.get(), 0, 3});
  refuses("not of whole words", {0, x.get(), 1, 4});
  refuses("an upload of 8 bytes from 252 of 256", {252, x.get(), 0, 8});
  refuses("upload", {0, x.get(), 4096, 4});
  refuses("upload", {0, x.get(), UINT64_MAX - 3, 8});
}

TEST(Device, that_is_lost_takes_no_uploads) {
  const auto device = open();
  const BufferPtr x = device->buffer(256, "x");
  Uploads uploads(*device, 256);
  const Uploads::Part part{0, x.get(), 0, 256};
  uploads.room(256);
  uploads.send(std::span(&part, 1));
  device->destroy();
  const std::string expected =
      fmt::format("the device {} was lost: it was destroyed", device->caps().name);
  for (int piece = 0; piece < 5; ++piece)
    EXPECT_EQ(message_of<Error>([&] { uploads.room(256); }), expected);
  EXPECT_EQ(message_of<Error>([&] { uploads.send(std::span(&part, 1)); }), expected);
}

TEST_F(Recorder, a_dispatch_is_timed_in_microseconds) {
  Work work = dispatch(add_kernel, in_view, out_view);
  Dispatch slow = dispatch(slow_kernel, in_view, out_view);
  slow.params = bytes(Add::Params{1'000'000});
  work.dispatches.push_back(slow);
  const Recording recording = device->record(work);
  if (!device->caps().timestamps) GTEST_SKIP() << device->caps().name << " has no timestamps";
  const auto us = device->time(recording, 3);
  ASSERT_EQ(us.size(), 2u);
  EXPECT_GT(us[1], us[0]);
  EXPECT_LT(us[1], 60e6);
  EXPECT_THROW(device->time(recording, 0), std::invalid_argument);
}

TEST_F(Recorder, a_trace_has_the_begin_and_end_of_each_submission) {
  Dispatch slow = dispatch(slow_kernel, in_view, out_view);
  slow.params = bytes(Add::Params{1'000'000});
  const Recording recording = device->record(slow);
  if (!device->caps().timestamps) GTEST_SKIP() << device->caps().name << " has no timestamps";
  device->submit(recording);  // before the trace
  device->start_trace();
  EXPECT_TRUE(device->take_trace().empty());
  device->start_trace();
  for (int i = 0; i < 3; ++i) device->submit(recording);
  const std::vector<Span> spans = device->take_trace();
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0].begin, 0);
  for (size_t i = 0; i < spans.size(); ++i) {
    EXPECT_LT(spans[i].begin, spans[i].end);
    EXPECT_TRUE(i == 0 || spans[i - 1].end <= spans[i].begin);
  }
  device->submit(recording);  // after it
  EXPECT_TRUE(device->take_trace().empty());
}

// Failures.

TEST(Device, memory_beyond_the_limit_is_an_error_with_both_sizes) {
  const auto device = open();
  const std::string text = message_of<Error>([&] { device->buffer(1ull << 50, "weights"); });
  EXPECT_SAYS(text, "weights: 1125899906842624 bytes");
  EXPECT_SAYS(text, fmt::format("at most {}", device->caps().max_buffer_bytes));
  EXPECT_THROW(device->buffer(UINT64_MAX, "wraps"), Error);
  EXPECT_NO_THROW(device->buffer(4, "small"));
}

TEST(Device, new_memory_is_zero) {
  const auto device = open();
  const BufferPtr buffer = device->buffer(1000, "b");
  EXPECT_EQ(buffer->bytes, 1024u);
  EXPECT_EQ(device->read(*buffer, 0, 1024), std::vector<std::byte>(1024));
}

TEST(Device, a_name_or_number_that_is_not_there_is_answered_with_those_that_are) {
  const std::string name = open()->caps().name;
  for (const char* wanted : {"no such adapter", "99"})
    EXPECT_SAYS(message_of<Error>([&] { Device::open({.device = wanted}); }), name);
  EXPECT_EQ(Device::open({.device = "0"})->caps().name, Device::adapters().at(0).name);
  EXPECT_EQ(Device::open({.device = name.substr(0, 4)})->caps().name.substr(0, 4),
            name.substr(0, 4));
}

TEST(Device, a_tier_restricts_what_kernels_see) {
  const Caps caps = open({}, Tier::portable)->caps();
  EXPECT_EQ(caps.variant, Variant());
  EXPECT_EQ(caps.max_subgroup_size, 1u);
  EXPECT_EQ(caps.max_storage_buffers, 8u);
  EXPECT_EQ(caps.max_workgroup_bytes, 16384u);
}

TEST(Device, a_device_that_is_lost_in_the_middle_of_work_is_one_clear_error) {
  const auto device = open();
  BufferPtr x = device->buffer(4096, "x"), y = device->buffer(4096, "y");
  Dispatch d = dispatch(slow_kernel, view(x, {1024}, Type::u32), view(y, {1024}, Type::u32));
  d.params = bytes(Add::Params{200'000});
  const Recording recording = device->record(d);
  const Ticket ticket = device->submit(recording, view(y, {1}, Type::u32));
  device->submit(recording);
  device->destroy();
  const std::string expected =
      fmt::format("the device {} was lost: it was destroyed", device->caps().name);
  EXPECT_EQ(message_of<Error>([&] { device->wait(ticket); }), expected);
  EXPECT_EQ(message_of<Error>([&] { device->submit(recording); }), expected);
  EXPECT_EQ(message_of<Error>([&] { device->submit(recording, view(y, {1}, Type::u32)); }),
            expected);
  EXPECT_EQ(message_of<Error>([&] { device->buffer(4, "b"); }), expected);
  EXPECT_EQ(message_of<Error>([&] { device->read(*x, 0, 4); }), expected);
  EXPECT_EQ(message_of<Error>([&] { device->write(*x, 0, words({1})); }), expected);
  EXPECT_EQ(message_of<Error>([&] { device->record(d); }), expected);
  EXPECT_EQ(message_of<Error>([&] { device->finish(); }), expected);
  EXPECT_NO_THROW(open()->finish());  // another one can be opened
}

TEST(Device, a_lost_device_compiles_nothing) {
  const auto device = open();
  device->destroy();
  EXPECT_TRUE(device->compile_error(compiled(add_kernel)));
}

TEST(Device, an_error_of_the_implementation_surfaces_at_the_next_call) {
  const auto device = open();
  const BufferPtr x = device->buffer(4096, "x");
  BufferPtr y = device->buffer(4096, "y");
  const Recording recording =
      device->record(dispatch(add_kernel, view(x, {64}, Type::u32), view(y, {64}, Type::u32)));
  y.reset();  // the recording outlives its memory
  device->submit(recording);
  EXPECT_SAYS(message_of<Error>([&] { device->buffer(4, "b"); }),
              "WebGPU error on " + device->caps().name);
  EXPECT_NO_THROW(device->buffer(4, "b"));  // told once
}

TEST(Device, memory_of_another_device_is_an_error) {
  const auto device = open(), other = open();
  const BufferPtr x = device->buffer(4096, "x"), y = other->buffer(4096, "y");
  EXPECT_THROW(
      device->record(dispatch(add_kernel, view(x, {64}, Type::u32), view(y, {64}, Type::u32))),
      Error);
}

TEST(Device, may_end_before_its_tickets_are_waited_for) {
  const auto device = open();
  const BufferPtr x = device->buffer(4096, "x"), y = device->buffer(4096, "y");
  device->submit(
      device->record(dispatch(add_kernel, view(x, {64}, Type::u32), view(y, {64}, Type::u32))),
      view(y, {1}, Type::u32));
}

TEST(NoAdapterDeathTest, says_what_to_install) {
  GTEST_FLAG_SET(death_test_style,
                 "threadsafe");  // a process of its own, that has not looked for drivers yet
  const auto without_drivers = [] {
    setenv("VK_DRIVER_FILES", "/dev/null", 1);
    setenv("VK_ICD_FILENAMES", "/dev/null", 1);
    if (!Device::adapters().empty()) std::exit(0);
    try {
      Device::open({});
    } catch (const Error& error) {
      fmt::print(stderr, "{}\n", error.what());
      std::exit(1);
    }
  };
  EXPECT_EXIT(without_drivers(), testing::ExitedWithCode(1),
              "no WebGPU adapter.*mesa-vulkan-drivers");
}

}  // namespace ms::gpu
