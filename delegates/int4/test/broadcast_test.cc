#include "delegates/int4/ops/broadcast.h"

#include <gtest/gtest.h>

#include <random>

namespace tfq::int4 {
namespace {

// Where the value of `dims` lies that meets value `index` of `output`.
int64_t PlaceOf(int64_t index, const Dims& output, const Dims& dims) {
  int64_t place = 0, stride = 1;
  for (size_t i = output.size(); i-- > 0; index /= output[i]) {
    const size_t lacking = output.size() - dims.size();
    if (i < lacking || dims[i - lacking] == 1) continue;
    place += index % output[i] * stride;
    stride *= dims[i - lacking];
  }
  return place;
}

TEST(Broadcast, EveryValueMeetsItsOwn) {
  std::mt19937 random(1);
  for (int32_t run = 0; run < 300; ++run) {
    const size_t rank = random() % 6;
    Dims output(rank), dims[2];
    for (int32_t& size : output) size = 1 + static_cast<int32_t>(random() % 4);
    for (Dims& some : dims) {
      const size_t lacking = rank == 0 ? 0 : random() % rank;
      for (size_t i = lacking; i < rank; ++i) some.push_back(random() % 2 == 0 ? 1 : output[i]);
    }
    BroadcastPlan plan;
    ASSERT_EQ(PlanBroadcast(dims[0], dims[1], &plan), "");
    for (int64_t i = 0; i < plan.rows * plan.columns; ++i) {
      const BroadcastRow row = plan.Row(i / plan.columns);
      const int64_t column = i % plan.columns;
      ASSERT_EQ(row.first + column * plan.first_step, PlaceOf(i, plan.output, dims[0]));
      ASSERT_EQ(row.second + column * plan.second_step, PlaceOf(i, plan.output, dims[1]));
    }
    EXPECT_EQ(plan.rows * plan.columns, ElementsOf(plan.output.data(), plan.output.data() + plan.output.size()));
  }
}

TEST(Broadcast, RowsAreAsLongAsTheyCanBe) {
  BroadcastPlan plan;
  ASSERT_EQ(PlanBroadcast({2, 3, 4}, {2, 3, 4}, &plan), "");
  EXPECT_EQ(plan.columns, 24);
  ASSERT_EQ(PlanBroadcast({1, 1, 2, 3}, {5, 1, 2, 3}, &plan), "");
  EXPECT_EQ(plan.columns, 6);
  EXPECT_EQ(plan.rows, 5);
  ASSERT_EQ(PlanBroadcast({2, 3, 4}, {2, 1, 1}, &plan), "");
  EXPECT_EQ(plan.columns, 12);
  EXPECT_EQ(plan.second_step, 0);
  EXPECT_TRUE(plan.simple);
  ASSERT_EQ(PlanBroadcast({2, 1, 4, 1}, {2, 3, 4, 5}, &plan), "");
  EXPECT_FALSE(plan.simple);
}

TEST(Broadcast, OneValueIsRepeatedPieceByPiece) {
  constexpr int64_t kColumns = 2500;
  std::vector<int8_t> many(kColumns), sums(kColumns, -1);
  for (size_t i = 0; i < many.size(); ++i) many[i] = static_cast<int8_t>(i % 100);
  const int8_t one = 7;
  const auto add = [](int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
    for (int64_t i = 0; i < count; ++i) out[i] = static_cast<int8_t>(a[i] + b[i]);
  };
  RunColumns(3, kColumns - 1, {&one, 0}, {many.data(), 1}, sums.data(), add);
  EXPECT_EQ(sums[2], -1);
  EXPECT_EQ(sums[kColumns - 1], -1);
  for (size_t i = 3; i + 1 < kColumns; ++i) ASSERT_EQ(sums[i], many[i] + one) << i;
}

}  // namespace
}  // namespace tfq::int4
