// The pool: every task once, thread numbers never shared at one time, callers in turn.
#include "delegates/int4/thread_pool.h"

#include <gtest/gtest.h>

#include <chrono>
#include <thread>

namespace tfq::int4 {
namespace {

TEST(ThreadPool, EveryTaskRunsOnceOnAThreadOfItsOwn) {
  for (const int32_t threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int32_t count = 0; count < 40; ++count) {
      std::vector<std::atomic<int32_t>> runs(static_cast<size_t>(count));
      std::vector<std::atomic<int32_t>> busy(static_cast<size_t>(threads));
      pool.Run(count, [&](int32_t index, int32_t thread) {
        EXPECT_EQ(busy[static_cast<size_t>(thread)].fetch_add(1), 0);
        ++runs[static_cast<size_t>(index)];
        busy[static_cast<size_t>(thread)].fetch_sub(1);
      });
      for (const auto& run : runs) EXPECT_EQ(run, 1);
    }
  }
}

TEST(ThreadPool, OneThreadIsTheCaller) {
  ThreadPool pool(1);
  const std::thread::id caller = std::this_thread::get_id();
  pool.Run(8, [&](int32_t, int32_t thread) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    EXPECT_EQ(thread, 0);
  });
}

TEST(ThreadPool, WakesUpWhoeverSleeps) {
  constexpr std::chrono::milliseconds kLongerThanASpin(2);
  for (const int32_t threads : {2, 5}) {
    ThreadPool pool(threads);
    std::atomic<int32_t> runs{0};
    for (int32_t round = 0; round < 5; ++round) {
      std::this_thread::sleep_for(kLongerThanASpin);  // the workers fall asleep
      pool.Run(threads, [&](int32_t, int32_t thread) {
        if (thread != 0) std::this_thread::sleep_for(kLongerThanASpin);  // the caller falls asleep
        ++runs;
      });
    }
    EXPECT_EQ(runs, 5 * threads);
  }
}

TEST(ThreadPool, CallersTakeTurns) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  const auto caller = [&] {
    for (int32_t round = 0; round < 200; ++round) {
      pool.Run(10, [&](int32_t index, int32_t) { sum += index; });
    }
  };
  std::thread other(caller);
  caller();
  other.join();
  EXPECT_EQ(sum, 2 * 200 * 45);
}

}  // namespace
}  // namespace tfq::int4
