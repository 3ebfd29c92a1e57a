// A row made integers at run time, one value at a time.
#include <cmath>

#include "delegates/int4/kernels/row_quantization.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void SumBlocks(const int8_t* values, int32_t count, int32_t block, int32_t* sums) {
  if (block == 0) return;
  for (int32_t begin = 0; begin < count; begin += block, ++sums) {
    *sums = 0;
    for (int32_t i = begin; i < begin + block; ++i) *sums += values[i];
  }
}

void RunOne(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
            RowQuantization* quantization) {
  float low = 0, high = 0;
  for (int32_t i = 0; i < count; ++i) {
    low = row[i] < low ? row[i] : low;
    high = row[i] > high ? row[i] : high;
  }
  const RowScale scale = ScaleOfRange(low, high);
  *quantization = scale.quantization;
  for (int32_t i = 0; i < count; ++i) values[i] = QuantizeValue(row[i], scale);
  SumBlocks(values, count, block, block_sums);
}

void RunFixed(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
              RowQuantization* quantization) {
  float largest = 0;
  for (int32_t i = 0; i < count; ++i) {
    const float magnitude = std::abs(row[i]);
    largest = magnitude <= largest ? largest : magnitude;  // takes on what is not a number
    if (std::isnan(largest)) break;
  }
  const FixedScale scale = ScaleOfLargest(largest);
  for (int32_t d = 0; d < kDigits; ++d) quantization[d] = scale.digits[d];
  SplitValues(row, 0, count, scale.inverse, values);
  for (int32_t d = 0; d < kDigits; ++d) {
    SumBlocks(values + ptrdiff_t(d) * count, count, block, block == 0 ? block_sums : block_sums + d * (count / block));
  }
}

}  // namespace

const QuantizeKernel quantize_f32_qd8_reference = {"quantize_f32_qd8_reference", CpuTier::kReference, 1, RunOne};

const QuantizeKernel quantize_f32_qd8x3_reference = {"quantize_f32_qd8x3_reference", CpuTier::kReference, kDigits,
                                                     RunFixed};

}  // namespace tfq::int4
