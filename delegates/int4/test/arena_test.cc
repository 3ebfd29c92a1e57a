// The arena: buffers that live together never overlap, and ones that do not share memory.
#include "delegates/int4/arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {
namespace {

TEST(Arena, NothingNeedsNothing) {
  std::vector<size_t> offsets;
  EXPECT_EQ(PlanArena({}, &offsets), 0u);
  EXPECT_TRUE(offsets.empty());
}

TEST(Arena, AChainNeedsItsTwoLargestNeighbours) {
  std::vector<size_t> offsets;
  const std::vector<Lifetime> chain = {{640, 0, 1}, {1280, 1, 2}, {640, 2, 3}, {320, 3, 4}};
  EXPECT_EQ(PlanArena(chain, &offsets), 1920u);
  EXPECT_EQ(offsets[0], offsets[2]);
}

TEST(Arena, RandomLifetimesNeverOverlap) {
  std::mt19937 engine(7);
  const auto draw = [&](int32_t low, int32_t high) {
    return std::uniform_int_distribution<int32_t>(low, high)(engine);
  };
  for (int32_t round = 0; round < 500; ++round) {
    std::vector<Lifetime> lives(static_cast<size_t>(draw(1, 12)));
    size_t sum = 0;
    for (Lifetime& life : lives) {
      life = {static_cast<size_t>(draw(0, 1000)), draw(0, 10), 0};
      life.last = life.first + draw(0, 4);
      sum += (life.bytes + kPackedAlignment - 1) / kPackedAlignment * kPackedAlignment;
    }
    std::vector<size_t> offsets;
    const size_t total = PlanArena(lives, &offsets);
    EXPECT_LE(total, sum);
    for (size_t i = 0; i < lives.size(); ++i) {
      EXPECT_EQ(offsets[i] % kPackedAlignment, 0u);
      EXPECT_LE(offsets[i] + lives[i].bytes, total);
      for (size_t j = 0; j < i; ++j) {
        if (lives[i].last < lives[j].first || lives[j].last < lives[i].first) continue;
        EXPECT_TRUE(offsets[i] + lives[i].bytes <= offsets[j] || offsets[j] + lives[j].bytes <= offsets[i]);
      }
    }
  }
}

}  // namespace
}  // namespace tfq::int4
