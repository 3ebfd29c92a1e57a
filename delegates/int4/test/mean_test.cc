#include "delegates/int4/ops/mean.h"

#include <gtest/gtest.h>

namespace tfq::int4 {
namespace {

struct Case {
  Dims input;
  Dims axes;
  int64_t outer, count, inner;
  Dims kept;
  Dims dropped;
};

TEST(Mean, NeighbouringAxesAreOne) {
  const Case cases[] = {
      {{2, 3, 4, 5}, {1, 2}, 2, 12, 5, {2, 1, 1, 5}, {2, 5}},
      {{2, 3, 4, 5}, {-3, -2, 2}, 2, 12, 5, {2, 1, 1, 5}, {2, 5}},
      {{2, 3, 4}, {-1}, 6, 4, 1, {2, 3, 1}, {2, 3}},
      {{1, 512, 1, 128}, {1, 0}, 1, 512, 128, {1, 1, 1, 128}, {1, 128}},
      {{4, 1, 3, 2}, {2, 0}, 1, 12, 2, {1, 1, 1, 2}, {1, 2}},
      {{7}, {0}, 1, 7, 1, {1}, {}},
  };
  for (const Case& mean : cases) {
    for (const bool keep : {false, true}) {
      MeanPlan plan;
      ASSERT_EQ(PlanMean(mean.input, mean.axes, keep, &plan), "");
      EXPECT_EQ(plan.outer, mean.outer);
      EXPECT_EQ(plan.count, mean.count);
      EXPECT_EQ(plan.inner, mean.inner);
      EXPECT_EQ(plan.output, keep ? mean.kept : mean.dropped);
    }
  }
}

TEST(Mean, WhatIsNotTaken) {
  MeanPlan plan;
  EXPECT_EQ(PlanMean({2, 3, 4, 5}, {1, 3}, true, &plan), "its axes are 1x3 (taken: neighbours)");
  EXPECT_EQ(PlanMean({2, 3}, {2}, true, &plan), "its axes are 2, of 2");
  EXPECT_EQ(PlanMean({2, 3}, {}, true, &plan), "it has no axes");
  EXPECT_EQ(PlanMean({0, 3}, {0}, true, &plan), "a mean of 0 values");
  EXPECT_EQ(PlanMean({3000, 3000}, {0, 1}, true, &plan), "a mean of 9000000 values");
}

}  // namespace
}  // namespace tfq::int4
