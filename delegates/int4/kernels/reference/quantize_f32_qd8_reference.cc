// Quantization of a row at run time, one value at a time.
#include <cmath>

#include "delegates/int4/kernels/row_quantization.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
         RowQuantization* quantization) {
  float low = 0, high = 0;
  for (int32_t i = 0; i < count; ++i) {
    low = row[i] < low ? row[i] : low;
    high = row[i] > high ? row[i] : high;
  }
  const RowScale scale = ScaleOfRange(low, high);
  *quantization = scale.quantization;
  for (int32_t i = 0; i < count; ++i) values[i] = QuantizeValue(row[i], scale);
  if (block == 0) return;
  for (int32_t begin = 0; begin < count; begin += block, ++block_sums) {
    *block_sums = 0;
    for (int32_t i = begin; i < begin + block; ++i) *block_sums += values[i];
  }
}

}  // namespace

const QuantizeKernel quantize_f32_qd8_reference = {"quantize_f32_qd8_reference", CpuTier::kReference, Run};

}  // namespace tfq::int4
