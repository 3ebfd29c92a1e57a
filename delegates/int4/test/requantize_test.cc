// Multipliers, shifts and activation ranges against the golden vectors that Python tests too.
#include "delegates/int4/ops/requantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "delegates/int4/test/golden.h"

namespace tfq::int4 {
namespace {

template <typename Real, typename Bits>
Real FromBits(int64_t value) {
  const Bits bits = static_cast<Bits>(value);
  Real real;
  std::memcpy(&real, &bits, sizeof(real));
  return real;
}

TEST(Requantize, MultipliersAreTheGoldenOnes) {
  const auto rows = ReadGolden("quantize_multiplier.tsv");
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) {
    const double real = FromBits<double, uint64_t>(row[0]);
    int32_t multiplier, shift;
    ASSERT_TRUE(QuantizeMultiplier(real, &multiplier, &shift)) << real;
    EXPECT_EQ(multiplier, row[1]) << real;
    EXPECT_EQ(shift, row[2]) << real;
  }
}

TEST(Requantize, MultipliersOutOfRangeAreRefused) {
  int32_t multiplier, shift;
  for (const double real : {-1.0, 2e9, std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_FALSE(QuantizeMultiplier(real, &multiplier, &shift)) << real;
  }
  EXPECT_TRUE(QuantizeMultiplier(1e-12, &multiplier, &shift));
  EXPECT_EQ(multiplier, 0);
}

TEST(Requantize, ActivationRangesAreTheGoldenOnes) {
  const auto rows = ReadGolden("activation_range.tsv");
  ASSERT_FALSE(rows.empty());
  for (const auto& row : rows) {
    abi::Tensor output = {};
    output.params = {FromBits<float, uint32_t>(row[1]), static_cast<int32_t>(row[2])};
    NodeView view;
    view.outputs = {{0, &output}};
    view.activation = static_cast<abi::Activation>(row[0]);
    const OutputStage stage = MakeOutputStage(view, Rounding::kSingle);
    EXPECT_EQ(stage.min, row[3]);
    EXPECT_EQ(stage.max, row[4]);
    EXPECT_EQ(stage.zero_point, row[2]);
    EXPECT_EQ(stage.rounding, Rounding::kSingle);
  }
}

TEST(Requantize, RoundingFollowsTheRuntimeAndTheShape) {
  // XNNPACK takes dense layers with whole bytes a row.
  EXPECT_EQ(RoundingOfProduct(Match::kXnnpack, OpKind::kDense, 4, 7, 16, 32), Rounding::kSingle);
  EXPECT_EQ(RoundingOfProduct(Match::kXnnpack, OpKind::kDense, 4, 7, 16, 33),
            RoundingOfProduct(Match::kLiteRt, OpKind::kDense, 4, 7, 16, 33));
  EXPECT_EQ(RoundingOfProduct(Match::kXnnpack, OpKind::kConv, 4, 7, 16, 32),
            RoundingOfProduct(Match::kLiteRt, OpKind::kConv, 4, 7, 16, 32));
  // It takes INT8 layers of every kind; the built-in kernels round the same for both widths.
  EXPECT_EQ(RoundingOfProduct(Match::kXnnpack, OpKind::kDense, 8, 7, 16, 33), Rounding::kSingle);
  EXPECT_EQ(RoundingOfProduct(Match::kXnnpack, OpKind::kConv, 8, 7, 16, 32), Rounding::kSingle);
  EXPECT_EQ(RoundingOfGroupedConv(Match::kXnnpack, 8), Rounding::kSingle);
  EXPECT_EQ(RoundingOfDepthwise(Match::kXnnpack, 8), Rounding::kSingle);
  EXPECT_EQ(RoundingOfGroupedConv(Match::kXnnpack, 4), RoundingOfGroupedConv(Match::kLiteRt, 4));
  EXPECT_EQ(RoundingOfDepthwise(Match::kXnnpack, 4), RoundingOfDepthwise(Match::kLiteRt, 4));
  for (const Match match : {Match::kLiteRt, Match::kTfLite214}) {
    EXPECT_EQ(RoundingOfProduct(match, OpKind::kConv, 8, 7, 16, 32),
              RoundingOfProduct(match, OpKind::kConv, 4, 7, 16, 32));
    EXPECT_EQ(RoundingOfDepthwise(match, 8), RoundingOfDepthwise(match, 4));
    const Rounding matrix = RoundingOfProduct(match, OpKind::kConv, 4, 2, 16, 32);
    EXPECT_EQ(RoundingOfProduct(match, OpKind::kConv, 4, 1, 4, 8), Rounding::kDoubleUpward);
    EXPECT_EQ(RoundingOfProduct(match, OpKind::kConv, 4, 1, 3, 8), matrix);
    EXPECT_EQ(RoundingOfProduct(match, OpKind::kDense, 4, 1, 4, 7), matrix);
  }
}

}  // namespace
}  // namespace tfq::int4
