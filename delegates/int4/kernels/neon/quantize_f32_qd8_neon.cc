// A row made integers at run time, on NEON.
#include <arm_neon.h>

#include "delegates/int4/kernels/row_quantization.h"
#include "delegates/int4/kernels/unroll.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kStep = 16;

// Of values that are not numbers, comparisons say no: they are passed over.
inline float32x4_t Lower(float32x4_t x, float32x4_t low) { return vbslq_f32(vcltq_f32(x, low), x, low); }
inline float32x4_t Higher(float32x4_t x, float32x4_t high) { return vbslq_f32(vcgtq_f32(x, high), x, high); }

RowScale ScaleOfRow(const float* row, int32_t count) {
  float32x4_t lows[2] = {vdupq_n_f32(0), vdupq_n_f32(0)};
  float32x4_t highs[2] = {vdupq_n_f32(0), vdupq_n_f32(0)};
  int32_t i = 0;
  for (; i + 8 <= count; i += 8) {
    TFQ_UNROLL
    for (int v = 0; v < 2; ++v) {
      const float32x4_t x = vld1q_f32(row + i + 4 * v);
      lows[v] = Lower(x, lows[v]);
      highs[v] = Higher(x, highs[v]);
    }
  }
  float low = vminvq_f32(vminq_f32(lows[0], lows[1]));
  float high = vmaxvq_f32(vmaxq_f32(highs[0], highs[1]));
  for (; i < count; ++i) {
    low = row[i] < low ? row[i] : low;
    high = row[i] > high ? row[i] : high;
  }
  return ScaleOfRange(low, high);
}

inline int32x4_t Quantize(const float* from, float inverse, int32x4_t zero_point) {
  const float32x4_t steps = vmulq_n_f32(vld1q_f32(from), inverse);
  // The maximum of a number and of what is none is the number.
  const float32x4_t clamped = vminq_f32(vmaxnmq_f32(steps, vdupq_n_f32(-255.0f)), vdupq_n_f32(255.0f));
  return vaddq_s32(vcvtnq_s32_f32(clamped), zero_point);
}

inline int32x4_t AddValues(int32x4_t sum, int8x16_t values) { return vpadalq_s16(sum, vpaddlq_s8(values)); }

void RunOne(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
            RowQuantization* quantization) {
  const RowScale scale = ScaleOfRow(row, count);
  *quantization = scale.quantization;
  const int32x4_t zero_point = vdupq_n_s32(scale.quantization.zero_point);
  const int32_t whole = count / kStep * kStep;
  const int32_t piece = block == 0 ? whole : block;
  int32_t i = 0;
  while (i < whole) {
    int32x4_t sum = vdupq_n_s32(0);
    for (const int32_t end = i + piece; i < end; i += kStep) {
      int16x8_t words[2];
      TFQ_UNROLL
      for (int v = 0; v < 2; ++v) {
        const float* from = row + i + 8 * v;
        words[v] = vqmovn_high_s32(vqmovn_s32(Quantize(from, scale.inverse, zero_point)),
                                   Quantize(from + 4, scale.inverse, zero_point));
      }
      const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(words[0]), words[1]);
      vst1q_s8(values + i, bytes);
      if (block != 0) sum = AddValues(sum, bytes);
    }
    if (block != 0) *block_sums++ = vaddvq_s32(sum);
  }
  for (; i < count; ++i) values[i] = QuantizeValue(row[i], scale);
}

float LargestOf(const float* row, int32_t count) {
  // As integers, magnitudes are in order, with infinity above all numbers and what is no number above that.
  uint32x4_t largest = vdupq_n_u32(0);
  int32_t i = 0;
  for (; i + 4 <= count; i += 4) largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(vld1q_f32(row + i))));
  for (; i < count; ++i) {
    largest = vmaxq_u32(largest, vreinterpretq_u32_f32(vabsq_f32(vdupq_n_f32(row[i]))));
  }
  return vgetq_lane_f32(vreinterpretq_f32_u32(vdupq_n_u32(vmaxvq_u32(largest))), 0);
}

// With 128 added to each digit, the digits of a number are its bytes, of which the highest is 0.
inline int8x16_t DigitBytes(const float* from, float inverse) {
  // What is not a number becomes 0, and so does all of a row whose inverse is 0.
  const uint32x4_t q = vreinterpretq_u32_s32(vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(from), inverse)));
  const uint32x4_t half = vdupq_n_u32(0x80808080u);
  return vreinterpretq_s8_u32(veorq_u32(vaddq_u32(q, half), half));
}

void RunFixed(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
              RowQuantization* quantization) {
  const FixedScale scale = ScaleOfLargest(LargestOf(row, count));
  for (int32_t d = 0; d < kDigits; ++d) quantization[d] = scale.digits[d];
  const int32_t blocks = block == 0 ? 0 : count / block;
  const int32_t whole = count / kStep * kStep;
  const int32_t piece = block == 0 ? whole : block;
  int32_t i = 0;
  while (i < whole) {
    int32x4_t sums[kDigits] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (const int32_t end = i + piece; i < end; i += kStep) {
      int8x16_t numbers[4];
      TFQ_UNROLL
      for (int v = 0; v < 4; ++v) numbers[v] = DigitBytes(row + i + 4 * v, scale.inverse);
      const int8x16_t even[2] = {vuzp1q_s8(numbers[0], numbers[1]), vuzp1q_s8(numbers[2], numbers[3])};
      const int8x16_t odd[2] = {vuzp2q_s8(numbers[0], numbers[1]), vuzp2q_s8(numbers[2], numbers[3])};
      const int8x16_t digits[kDigits] = {vuzp1q_s8(even[0], even[1]), vuzp1q_s8(odd[0], odd[1]),
                                         vuzp2q_s8(even[0], even[1])};
      TFQ_UNROLL
      for (int d = 0; d < kDigits; ++d) {
        vst1q_s8(values + ptrdiff_t(d) * count + i, digits[d]);
        if (block != 0) sums[d] = AddValues(sums[d], digits[d]);
      }
    }
    if (block == 0) continue;
    for (int d = 0; d < kDigits; ++d) block_sums[d * blocks] = vaddvq_s32(sums[d]);
    ++block_sums;
  }
  SplitValues(row, i, count, scale.inverse, values);
}

}  // namespace

const QuantizeKernel quantize_f32_qd8_neon = {"quantize_f32_qd8_neon", CpuTier::kNeon, 1, RunOne};

const QuantizeKernel quantize_f32_qd8x3_neon = {"quantize_f32_qd8x3_neon", CpuTier::kNeon, kDigits, RunFixed};

}  // namespace tfq::int4
