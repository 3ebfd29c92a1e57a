// Additions of int8 tensors in floating point. Their integers round up to four times on the way, each time by a known
// amount at most: where the real sum lies further than all of that from a tie, it rounds to the same integer.
//
// Functions are static: each tier's file is compiled for its own instruction set, and a shared inline copy could come
// from any.
#ifndef TFQ_DELEGATES_INT4_KERNELS_LINEAR_SUM_H_
#define TFQ_DELEGATES_INT4_KERNELS_LINEAR_SUM_H_

#include <cstdint>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

// out = a * x + b * y + offset, rounded to the nearest integer and clamped, wherever that integer is nearer than
// `certain`; elsewhere the integers decide. Not positive: nowhere is it certain.
struct LinearSum {
  float a;
  float b;
  float offset;
  float certain;
};

// 2^-n for n in 0..62.
static inline double InversePowerOfTwo(int32_t n) { return 1.0 / static_cast<double>(int64_t{1} << n); }

static inline double Magnitude(double x) { return x < 0 ? -x : x; }

// The real factor of a term, in units of the sum.
static inline double FactorOf(const AddTerm& term) {
  return term.multiplier * InversePowerOfTwo(31 - term.left + term.right);
}

static inline LinearSum LinearSumOf(const AddParams& params) {
  LinearSum sum = {0, 0, 0, -1};
  if (params.shift > 0) return sum;
  const bool once = params.stage.rounding == Rounding::kSingle;
  const double unit =
      once ? InversePowerOfTwo(-params.shift) : params.multiplier * InversePowerOfTwo(31 - params.shift);
  const double a = (once ? params.a.multiplier : FactorOf(params.a)) * unit;
  const double b = (once ? params.b.multiplier : FactorOf(params.b)) * unit;
  const double offset = params.stage.zero_point - a * params.a.zero_point - b * params.b.zero_point;
  // Each term rounds to halves of the sum's unit twice at most, the second time after a shift to the right, and the
  // stage to a half before its last shift.
  const double rounding = once ? 0 : 2 * unit + 0.5 * InversePowerOfTwo(-params.shift);
  // Coefficients, products and sums in 24 bits, with room to spare.
  const double floating = ((Magnitude(a) + Magnitude(b)) * 128 + Magnitude(offset)) * InversePowerOfTwo(20);
  if (rounding + floating > 0.0625) return sum;
  sum = {static_cast<float>(a), static_cast<float>(b), static_cast<float>(offset),
         static_cast<float>(0.499999 - rounding - floating)};
  return sum;
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_LINEAR_SUM_H_
