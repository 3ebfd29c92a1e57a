// The scalar output stage against the golden vectors that Python shares, and against the oracle on the edges.
#include "delegates/int4/kernels/output_stage.h"

#include <gtest/gtest.h>

#include <random>

#include "delegates/int4/test/golden.h"
#include "delegates/int4/test/oracle.h"

namespace tfq::int4 {
namespace {

TEST(OutputStage, AgreesWithTheGoldenVectors) {
  const auto rows = ReadGolden("fixed_point.tsv");
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) {
    ASSERT_EQ(row.size(), 6u);
    const int32_t x = static_cast<int32_t>(row[0]), multiplier = static_cast<int32_t>(row[1]);
    const int32_t shift = static_cast<int32_t>(row[2]);
    SCOPED_TRACE(testing::Message() << x << " * " << multiplier << " shift " << shift);
    EXPECT_EQ(MultiplyDoubleRounding(x, multiplier, shift, true), row[3]);
    EXPECT_EQ(MultiplyDoubleRounding(x, multiplier, shift, false), row[4]);
    EXPECT_EQ(MultiplySingleRounding(x, multiplier, shift), row[5]);
  }
}

TEST(OutputStage, AgreesWithTheOracleOnEdgesAndAtRandom) {
  std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> any_sum(INT32_MIN, INT32_MAX);
  std::uniform_int_distribution<int32_t> any_multiplier(1 << 30, INT32_MAX);
  for (int32_t shift = -31; shift <= 30; ++shift) {
    for (int32_t i = 0; i < 300; ++i) {
      const int32_t edges[] = {0, 1, -1, 2, -2, INT32_MAX, INT32_MIN, INT32_MIN + 1, 1 << 30, -(1 << 30)};
      const int32_t x = i < 10 ? edges[i] : any_sum(random) >> (i % 31);
      const int32_t multiplier = i % 7 == 0   ? 1 << 30
                                 : i % 7 == 1 ? INT32_MAX
                                 : i % 7 == 2 ? 0
                                              : any_multiplier(random);
      SCOPED_TRACE(testing::Message() << x << " * " << multiplier << " shift " << shift);
      EXPECT_EQ(MultiplySingleRounding(x, multiplier, shift),
                OracleMultiply(x, multiplier, shift, Rounding::kSingle, 0, 1));
      EXPECT_EQ(MultiplyDoubleRounding(x, multiplier, shift, true),
                OracleMultiply(x, multiplier, shift, Rounding::kDouble, 0, 1));
      EXPECT_EQ(MultiplyDoubleRounding(x, multiplier, shift, false),
                OracleMultiply(x, multiplier, shift, Rounding::kDoubleUpward, 0, 1));
    }
  }
}

TEST(OutputStage, SplitsTheRoundingByEights) {
  for (int32_t channels = 1; channels <= 40; ++channels) {
    EXPECT_EQ(TiesAwayBegin(Rounding::kDouble, channels), 0);
    EXPECT_EQ(TiesAwayBegin(Rounding::kDoubleUpward, channels), channels);
    EXPECT_EQ(TiesAwayBegin(Rounding::kDoubleByEights, channels), channels - channels % 8);
  }
}

TEST(OutputStage, ClampsAfterTheZeroPoint) {
  const OutputStage stage{-20, -20, 30, Rounding::kDoubleUpward};
  EXPECT_EQ(ApplyOutputStage(-5, 1 << 30, 1, false, stage), -20);
  EXPECT_EQ(ApplyOutputStage(40, 1 << 30, 1, false, stage), 20);
  EXPECT_EQ(ApplyOutputStage(1000, 1 << 30, 1, false, stage), 30);
}

}  // namespace
}  // namespace tfq::int4
