// Some thousand damaged graphs, the same in every run; fuzz/ looks for others.
#include "delegates/int4/test/damaged_graph.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <vector>

namespace tfq::int4 {
namespace {

TEST(DamagedGraph, IsDeclinedRefusedOrComputedWithinItsMemory) {
  for (uint32_t seed = 0; seed < 4000; ++seed) {
    std::fprintf(stderr, "seed %u\n", seed);  // the last words before a crash; ctest shows them then alone
    std::mt19937 engine(seed);
    std::vector<uint8_t> choices(128);
    for (uint8_t& choice : choices) choice = static_cast<uint8_t>(engine());
    RunDamagedGraph(choices.data(), choices.size());
  }
}

}  // namespace
}  // namespace tfq::int4
