// contract_lab_test.cpp: that the lab, which every kernel is judged by, does find what is wrong.
#include <gtest/gtest.h>

#include "kernels/lab.hpp"
#include "kernels/scale/scale.hpp"
#include "kernels/sources.hpp"

namespace ms {

namespace {

class LabTest : public testing::Test {
 protected:
  std::unique_ptr<gpu::Device> device = gpu::Device::open({.sources = wgsl_sources()});
  Lab lab{*device};

  // scale's work with another twin than its own.
  gpu::Work with_twin(const Scale& args, gpu::Twin twin) {
    kernels.push_back(std::make_unique<gpu::Kernel>(scale_kernel));
    kernels.back()->twin = twin;
    gpu::Work work = scale(lab.caps(), args);
    work.dispatches.at(0).kernel = kernels.back().get();
    return work;
  }
  std::string failure_of(const std::function<void()>& run) {
    try {
      run();
    } catch (const Error& error) {
      return error.what();
    }
    ADD_FAILURE() << "nothing was found";
    return "";
  }

  std::vector<std::unique_ptr<gpu::Kernel>> kernels;
};

#define EXPECT_SAYS(message, part) EXPECT_NE((message).find(part), std::string::npos) << (message)

TEST_F(LabTest, a_kernel_that_differs_from_its_twin_fails_with_the_elements) {
  const Scale args{.x = lab.values({100}, [](size_t i) { return float(i); }),
                   .y = lab.output({100}),
                   .scale = 2};
  lab.check(scale(lab.caps(), args));
  const auto wrong = with_twin(args, [](const gpu::HostDispatch& d) {
    for (size_t i = 0; i < 100; ++i)
      d.get<float>(1)[i] = 2 * d.get<float>(0)[i] + (i == 99 ? 1.0f : 0.0f);
  });
  const std::string text = failure_of([&] { lab.check(wrong); });
  EXPECT_SAYS(text, "scale on " + lab.caps().name);
  EXPECT_SAYS(text, "binding 2");
  EXPECT_SAYS(text, "1 of 100 elements differ");
  EXPECT_SAYS(text, "element 99: got 198, want 199");
}

TEST_F(LabTest, the_tolerance_is_absolute_plus_relative) {
  const Scale args{.x = lab.values({1}, [](size_t) { return 1000.0f; }), .y = lab.output({1})};
  const auto off_by_one =
      with_twin(args, [](const gpu::HostDispatch& d) { d.get<float>(1)[0] = 1001; });
  lab.check(off_by_one, {.abs = 1.01, .rel = 0});
  lab.check(off_by_one, {.abs = 0, .rel = 1.01e-3});
  EXPECT_THROW(lab.check(off_by_one, {.abs = 0.99, .rel = 0}), Error);
  EXPECT_THROW(lab.check(off_by_one, {.abs = 0, .rel = 0.99e-3}), Error);
}

TEST_F(LabTest, an_output_that_only_one_side_writes_fails) {
  const Scale args{.x = lab.random({8}), .y = lab.output({8})};
  const gpu::Work lazy_twin = with_twin(args, [](const gpu::HostDispatch&) {});
  EXPECT_SAYS(failure_of([&] { lab.check(lazy_twin); }), "8 of 8 elements differ");
  gpu::Work nothing = lazy_twin;
  nothing.dispatches[0].params = gpu::bytes(Scale::Params{0, 1, 0});
  lab.check(nothing);  // memory that is not meant to be written
  const gpu::Work written =
      with_twin(args, [](const gpu::HostDispatch& d) { std::ranges::fill(d.get<float>(1), 1.0f); });
  nothing.dispatches[0].kernel = written.dispatches[0].kernel;
  EXPECT_SAYS(failure_of([&] { lab.check(nothing); }), "8 of 8 elements differ");
}

TEST_F(LabTest, infinities_agree_and_nan_does_not) {
  const float infinity = INFINITY;
  const Scale args{.x = lab.values({1}, [=](size_t) { return infinity; }), .y = lab.output({1})};
  lab.check(scale(lab.caps(), args));
  const Scale nan{.x = lab.values({1}, [](size_t) { return NAN; }), .y = lab.output({1})};
  EXPECT_THROW(lab.check(scale(lab.caps(), nan)), Error);
}

TEST_F(LabTest, a_check_leaves_memory_as_it_was) {
  const Scale args{.y = lab.values({4}, [](size_t i) { return float(i); }),
                   .scale = 3};  // in place
  lab.check(scale(lab.caps(), args));
  lab.check(scale(lab.caps(), args));
  EXPECT_EQ(lab.read(args.y), (std::vector<float>{0, 1, 2, 3}));
}

TEST_F(LabTest, combinations_that_no_case_ran_are_missed) {
  const Scale args{.x = lab.random({8}), .y = lab.output({8})};
  const auto all = gpu::every(scale_kernel);
  EXPECT_EQ(lab.missed(scale_kernel), all);
  const auto run = [&](uint32_t refused) {
    lab.every<Scale::Overrides>(scale_kernel, [&](auto over) {
      require(over.workgroup_size != refused, "of another case");
      return scale(lab.caps(), args, over);
    });
  };
  run(64);
  ASSERT_EQ(lab.missed(scale_kernel).size(), 1u);
  EXPECT_EQ(lab.missed(scale_kernel)[0][0].value, 64);
  run(256);
  EXPECT_TRUE(lab.missed(scale_kernel).empty());
  EXPECT_EQ(lab.missed(scale_kernel, "another entry"), all);
}

TEST_F(LabTest, a_room_whose_cases_miss_a_combination_fails) {
  static const KernelTest one("scale", [](Lab& lab) {
    lab.check(scale(lab.caps(), {.x = lab.random({8}), .y = lab.output({8})}));
  });
  EXPECT_SAYS(
      failure_of([&] { run_kernel_test(one, *device); }),
      "scale: 2 valid combinations of main were run by no case, the first: WORKGROUP_SIZE=64");
}

TEST_F(LabTest, a_refusal_must_come_and_say_why) {
  const gpu::View x = lab.random({4}), y = lab.output({3});
  lab.refuses("y is [3]", [&] { scale(lab.caps(), {.x = x, .y = y}); });
  EXPECT_SAYS(failure_of([&] {
                lab.refuses("another reason", [&] { scale(lab.caps(), {.x = x, .y = y}); });
              }),
              "does not say \"another reason\"");
  EXPECT_SAYS(failure_of([&] {
                lab.refuses("y is", [&] { scale(lab.caps(), {.x = x, .y = x.as({2, 2})}); });
              }),
              "accepted what must be refused");
}

}  // namespace

}  // namespace ms
