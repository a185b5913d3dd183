// thread_pool_test.cpp: each iteration once, exceptions, nesting, several callers.
#include "base/thread_pool.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>

namespace ms {
namespace {

TEST(ThreadPool, runs_each_iteration_once) {
  for (size_t threads : {1, 2, 7}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (size_t count : {0, 1, 2, 1000}) {
      std::vector<std::atomic<int>> calls(count);
      pool.parallel_for(count, [&](size_t i) { ++calls[i]; });
      for (const auto& call : calls) EXPECT_EQ(call, 1);
    }
  }
}

TEST(ThreadPool, has_a_thread_for_each_of_the_machine_by_default) {
  EXPECT_EQ(ThreadPool().size(), std::max(1u, std::thread::hardware_concurrency()));
}

TEST(ThreadPool, its_threads_work_at_the_same_time) {
  ThreadPool pool(3);
  std::atomic<int> arrived = 0;
  pool.parallel_for(3, [&](size_t) {  // each iteration waits for all the others
    ++arrived;
    while (arrived < 3) std::this_thread::yield();
  });
  EXPECT_EQ(arrived, 3);
}

TEST(ThreadPool, an_exception_reaches_the_caller_and_the_pool_lives_on) {
  for (size_t threads : {1, 4}) {
    ThreadPool pool(threads);
    std::atomic<size_t> calls = 0;
    try {
      pool.parallel_for(1000000, [&](size_t i) {
        ++calls;
        if (i == 3) throw std::runtime_error("iteration 3");
      });
      FAIL() << "nothing was thrown";
    } catch (const std::runtime_error& error) {
      EXPECT_STREQ(error.what(), "iteration 3");
    }
    EXPECT_LT(calls, 1000000u);

    calls = 0;
    pool.parallel_for(10, [&](size_t) { ++calls; });
    EXPECT_EQ(calls, 10u);
  }
}

TEST(ThreadPool, loops_nest) {
  ThreadPool pool(3);
  std::atomic<int> calls = 0;
  pool.parallel_for(8, [&](size_t) {
    pool.parallel_for(8, [&](size_t) { pool.parallel_for(8, [&](size_t) { ++calls; }); });
  });
  EXPECT_EQ(calls, 8 * 8 * 8);
}

TEST(ThreadPool, serves_several_callers) {
  ThreadPool pool(3);
  std::atomic<int> calls = 0;
  {
    std::vector<std::jthread> callers;
    for (int i = 0; i < 4; ++i) {
      callers.emplace_back([&] {
        for (int round = 0; round < 50; ++round) pool.parallel_for(20, [&](size_t) { ++calls; });
      });
    }
  }
  EXPECT_EQ(calls, 4 * 50 * 20);
}

}  // namespace
}  // namespace ms
