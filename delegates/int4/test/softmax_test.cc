#include "delegates/int4/ops/softmax.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace tfq::int4 {
namespace {

using Row = std::vector<int8_t>;

// As the runtime's kernels have it on x86-64, value by value.
Row FloatRow(float step, const Row& row) {
  const int8_t largest = *std::max_element(row.begin(), row.end());
  std::vector<float> weights;
  for (const int8_t x : row) weights.push_back(std::exp(-step * static_cast<float>(largest - x)));
  const float inverse = 1.0f / (std::accumulate(weights.begin(), weights.end(), 0.0f) / 256.0f);
  Row out;
  for (const float weight : weights) {
    out.push_back(static_cast<int8_t>(std::min(127.0f, std::round(weight * inverse) - 128.0f)));
  }
  return out;
}

// And on arm64. Every number is exact in double, but for the exponential and the inverse, which are of float32.
Row FixedRow(float step, const Row& row) {
  const int8_t largest = *std::max_element(row.begin(), row.end());
  std::vector<double> weights;
  for (const int8_t x : row) {
    const float weight = std::exp(step * static_cast<float>(x - largest)) * 65535.0f;
    weights.push_back(std::min(65535.0, std::floor(static_cast<double>(weight) + 0.5)));
  }
  const float sum = static_cast<float>(std::accumulate(weights.begin(), weights.end(), 0.0));
  int exponent;
  const double mantissa = std::frexp(static_cast<double>(1.0f / (sum / 256.0f)), &exponent);
  const double multiplier = std::floor(mantissa * 2147483648.0 + 0.5);
  Row out;
  for (const double weight : weights) {
    const double high = std::floor(weight * multiplier / 2147483648.0 + 0.5);
    out.push_back(static_cast<int8_t>(std::min(127.0, std::floor(std::ldexp(high, exponent) + 0.5) - 128.0)));
  }
  return out;
}

void LookUp(const int8_t* table, int64_t count, const int8_t* in, int8_t* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = table[in[i] + 128];
}

template <typename Arithmetic>
void ExpectRows(Row (*expected)(float, const Row&)) {
  std::mt19937 random(1);
  constexpr int64_t kCounts[] = {1, 2, 15, 63, 64, 65, 300};
  constexpr float kSteps[] = {0.0f, 1e-4f, 0.01f, 0.08f, 0.7f, 40.0f, 1e30f};
  constexpr int32_t kSpreads[] = {0, 3, 40, 255};
  for (const int64_t count : kCounts) {
    for (const float step : kSteps) {
      const SoftmaxRows<Arithmetic> softmax(step);
      for (const int32_t spread : kSpreads) {
        const int32_t rows = 1 + static_cast<int32_t>(random() % kSoftmaxRows);
        Row in(static_cast<size_t>(rows * count)), out(in.size());
        const int32_t low = std::uniform_int_distribution<int32_t>(-128, 127 - spread)(random);
        for (int8_t& x : in) {
          x = static_cast<int8_t>(std::uniform_int_distribution<int32_t>(low, low + spread)(random));
        }
        softmax.Run(rows, count, in.data(), out.data(), LookUp);
        for (int64_t i = 0; i < rows; ++i) {
          const auto begin = in.begin() + i * count;
          EXPECT_EQ(Row(out.begin() + i * count, out.begin() + (i + 1) * count),
                    expected(step, Row(begin, begin + count)))
              << "row " << i << " of " << rows << ", " << count << " values, step " << step << ", spread " << spread;
        }
      }
    }
  }
}

TEST(Softmax, FloatWeights) { ExpectRows<FloatSoftmax>(FloatRow); }

TEST(Softmax, FixedPointWeights) { ExpectRows<FixedSoftmax>(FixedRow); }

}  // namespace
}  // namespace tfq::int4
