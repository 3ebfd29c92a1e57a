// The two arithmetics of the runtime's int8 SOFTMAX: of each value x of a row, exp(beta * scale * (x - largest)) over
// the row's sum of these.
#ifndef TFQ_DELEGATES_INT4_OPS_SOFTMAX_H_
#define TFQ_DELEGATES_INT4_OPS_SOFTMAX_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "delegates/int4/kernels/output_stage.h"
#include "delegates/int4/ops/requantize.h"

namespace tfq::int4 {

// Outputs have a scale of 1/256 and a zero point of -128.
constexpr float kSoftmaxScale = 1.0f / 256;

// Weights in float32, summed up from left to right: x86-64.
struct FloatSoftmax {
  using Weight = float;
  using Sum = float;
  using Factor = float;

  // Of `below` steps below the largest, times `step` = beta * scale.
  static Weight WeightOf(float step, int32_t below) { return std::exp(-step * static_cast<float>(below)); }

  static Factor FactorOf(Sum sum) { return 1.0f / (sum * kSoftmaxScale); }

  // Nearest integer, halves upward: the product is never negative.
  static int32_t Share(Weight weight, Factor factor) {
    const float real = weight * factor;
    const int32_t whole = static_cast<int32_t>(real);
    return whole + (real - static_cast<float>(whole) >= 0.5f ? 1 : 0);
  }
};

// Weights in 16 bits, the inverse of the sum in fixed point: arm64.
struct FixedSoftmax {
  using Weight = int32_t;
  using Sum = int32_t;
  struct Factor {
    int32_t multiplier;
    int32_t shift;
  };

  static Weight WeightOf(float step, int32_t below) {
    const float real = std::exp(step * static_cast<float>(-below)) * static_cast<float>(UINT16_MAX);
    return std::min<int32_t>(UINT16_MAX, static_cast<int32_t>(static_cast<double>(real) + 0.5));
  }

  static Factor FactorOf(Sum sum) {
    Factor factor;
    QuantizeMultiplier(static_cast<double>(1.0f / (static_cast<float>(sum) * kSoftmaxScale)), &factor.multiplier,
                       &factor.shift);
    return factor;
  }

  static int32_t Share(Weight weight, Factor factor) {
    return MultiplyDoubleRounding(weight, factor.multiplier, factor.shift, false);
  }
};

#if defined(__aarch64__)
using RuntimeSoftmax = FixedSoftmax;
#else
using RuntimeSoftmax = FloatSoftmax;
#endif

// Longer rows could overflow the sum of 16-bit weights.
constexpr int64_t kMostSoftmaxColumns = 1 << 15;

// Rows that are worked at together, so that one sum need not wait for another.
constexpr int32_t kSoftmaxRows = 8;

// A row this long or longer looks its outputs up in a table of its own.
constexpr int64_t kSoftmaxTableRow = 64;

template <typename Arithmetic>
class SoftmaxRows {
 public:
  using Weight = typename Arithmetic::Weight;
  using Sum = typename Arithmetic::Sum;
  using Factor = typename Arithmetic::Factor;

  explicit SoftmaxRows(float step) {
    for (int32_t below = 0; below < kValues; ++below) {
      weights_[static_cast<size_t>(kRoom + kValues - 1 - below)] = Arithmetic::WeightOf(step, below);
    }
  }

  // Up to kSoftmaxRows rows of `count` values each. look_up(table, count, in, out) is LookupKernel::run.
  template <typename LookUp>
  void Run(int32_t rows, int64_t count, const int8_t* in, int8_t* out, const LookUp& look_up) const {
    const Weight* weights[kSoftmaxRows];  // of value 0 in each row
    const int8_t* values[kSoftmaxRows];
    int32_t largest[kSoftmaxRows];
    for (int32_t i = 0; i < kSoftmaxRows; ++i) {
      values[i] = in + std::min(i, rows - 1) * count;
      largest[i] = Largest(count, values[i]);
      weights[i] = weights_.data() + kRoom + kValues - 1 - largest[i];
    }
    Sum sums[kSoftmaxRows];
    AddUp(count, weights, values, sums);
    for (int32_t i = 0; i < rows; ++i) {
      const Factor factor = Arithmetic::FactorOf(sums[i]);
      int8_t* to = out + i * count;
      if (count < kSoftmaxTableRow) {
        for (int64_t c = 0; c < count; ++c) to[c] = OutputOf(weights[i][values[i][c]], factor);
      } else {
        int8_t table[kRoom + kValues] = {};
        FillTable(weights[i], largest[i], factor, table + kRoom);
        look_up(table + kRoom, count, values[i], to);
      }
    }
  }

 private:
  static constexpr int32_t kValues = 256;
  static constexpr int32_t kRoom = 16;  // in front, so that tables can be filled in whole pieces of so many

  static int8_t OutputOf(Weight weight, Factor factor) {
    return static_cast<int8_t>(std::min(Arithmetic::Share(weight, factor), UINT8_MAX) + INT8_MIN);
  }

  static int32_t Largest(int64_t count, const int8_t* values) {
    uint8_t largest = 0;
    for (int64_t i = 0; i < count; ++i) {
      largest = std::max(largest, static_cast<uint8_t>(static_cast<uint8_t>(values[i]) ^ 0x80));
    }
    return largest + INT8_MIN;
  }

  static void AddUp(int64_t count, const Weight* const* weights, const int8_t* const* values, Sum* sums) {
    Sum sum[kSoftmaxRows] = {};
    for (int64_t c = 0; c < count; ++c) {
      for (int32_t i = 0; i < kSoftmaxRows; ++i) sum[i] += weights[i][values[i][c]];
    }
    std::copy(sum, sum + kSoftmaxRows, sums);
  }

  // The output of each value up to the largest, from there downward until outputs are the least that there is.
  static void FillTable(const Weight* weights, int32_t largest, Factor factor, int8_t* table) {
    int8_t* of = table - INT8_MIN;  // by value
    int32_t value = largest + 1;
    do {
      value -= kRoom;
      for (int32_t i = 0; i < kRoom; ++i) of[value + i] = OutputOf(weights[value + i], factor);
    } while (value > INT8_MIN && of[value] > INT8_MIN);
    if (value > INT8_MIN) std::fill(table, of + value, INT8_MIN);
  }

  // By how far a value is from 255 below the largest; those in front are never looked up.
  std::array<Weight, kRoom + kValues> weights_ = {};
};

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_OPS_SOFTMAX_H_
