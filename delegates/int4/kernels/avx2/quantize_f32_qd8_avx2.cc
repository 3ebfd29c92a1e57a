// A row made integers at run time, on AVX2.
#include <immintrin.h>

#include <cstring>

#include "delegates/int4/kernels/row_quantization.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kStep = 32;

float LowestOf(__m256 values) {
  __m128 low = _mm_min_ps(_mm256_castps256_ps128(values), _mm256_extractf128_ps(values, 1));
  low = _mm_min_ps(low, _mm_movehl_ps(low, low));
  return _mm_cvtss_f32(_mm_min_ss(low, _mm_shuffle_ps(low, low, 1)));
}

// Sum of 32 int8 values, by sums of absolute differences of the values moved to unsigned.
int32_t SumOf(__m256i values) {
  const __m256i moved = _mm256_xor_si256(values, _mm256_set1_epi8(-128));
  const __m256i sums = _mm256_sad_epu8(moved, _mm256_setzero_si256());
  const __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  return _mm_cvtsi128_si32(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half))) - 128 * kStep;
}

inline __m256i Quantize(const float* row, __m256 inverse, __m256i zero_point) {
  const __m256 steps = _mm256_mul_ps(_mm256_loadu_ps(row), inverse);
  // In this order a value that is not a number becomes the bound.
  const __m256 clamped = _mm256_min_ps(_mm256_max_ps(steps, _mm256_set1_ps(-255.0f)), _mm256_set1_ps(255.0f));
  return _mm256_add_epi32(_mm256_cvtps_epi32(clamped), zero_point);
}

// 32 bytes of four vectors of 32-bit values that fit them.
inline __m256i Narrow(__m256i a, __m256i b, __m256i c, __m256i d) {
  // Packing works in each half of a vector; this puts the groups of four back in order.
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d)), order);
}

void RunOne(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
            RowQuantization* quantization) {
  __m256 lows[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  __m256 highs[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};  // negated
  const __m256 sign = _mm256_set1_ps(-0.0f);
  int32_t i = 0;
  for (; i + 16 <= count; i += 16) {
    for (int32_t v = 0; v < 2; ++v) {
      const __m256 x = _mm256_loadu_ps(row + i + 8 * v);
      lows[v] = _mm256_min_ps(x, lows[v]);
      highs[v] = _mm256_min_ps(_mm256_xor_ps(x, sign), highs[v]);
    }
  }
  float low = LowestOf(_mm256_min_ps(lows[0], lows[1]));
  float high = -LowestOf(_mm256_min_ps(highs[0], highs[1]));
  for (; i < count; ++i) {
    low = row[i] < low ? row[i] : low;
    high = row[i] > high ? row[i] : high;
  }
  const RowScale scale = ScaleOfRange(low, high);
  *quantization = scale.quantization;

  const __m256 inverse = _mm256_set1_ps(scale.inverse);
  const __m256i zero_point = _mm256_set1_epi32(scale.quantization.zero_point);
  int32_t sum = 0;
  for (i = 0; i + kStep <= count; i += kStep) {
    const __m256i bytes =
        Narrow(Quantize(row + i, inverse, zero_point), Quantize(row + i + 8, inverse, zero_point),
               Quantize(row + i + 16, inverse, zero_point), Quantize(row + i + 24, inverse, zero_point));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + i), bytes);
    if (block == 0) continue;
    sum += SumOf(bytes);
    if ((i + kStep) % block == 0) {
      *block_sums++ = sum;
      sum = 0;
    }
  }
  for (; i < count; ++i) values[i] = QuantizeValue(row[i], scale);
}

float LargestOf(const float* row, int32_t count) {
  // As integers, magnitudes are in order, with infinity above all numbers and what is no number above that.
  const __m256i no_sign = _mm256_set1_epi32(INT32_MAX);
  __m256i largest = _mm256_setzero_si256();
  int32_t i = 0;
  for (; i + 8 <= count; i += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + i));
    largest = _mm256_max_epi32(largest, _mm256_and_si256(bits, no_sign));
  }
  alignas(32) int32_t parts[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(parts), largest);
  int32_t most = 0;
  for (const int32_t part : parts) most = part > most ? part : most;
  for (; i < count; ++i) {
    int32_t bits;
    std::memcpy(&bits, row + i, sizeof(bits));
    bits &= INT32_MAX;
    most = bits > most ? bits : most;
  }
  float value;
  std::memcpy(&value, &most, sizeof(value));
  return value;
}

void RunFixed(const float* row, int32_t count, int32_t block, int8_t* values, int32_t* block_sums,
              RowQuantization* quantization) {
  const FixedScale scale = ScaleOfLargest(LargestOf(row, count));
  for (int32_t d = 0; d < kDigits; ++d) quantization[d] = scale.digits[d];
  const __m256 inverse = _mm256_set1_ps(scale.inverse);
  const __m256i used = _mm256_set1_epi32(scale.inverse == 0 ? 0 : -1);
  const int32_t blocks = block == 0 ? 0 : count / block;
  int32_t sums[kDigits] = {};
  int32_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    __m256i rest[4];
    for (int v = 0; v < 4; ++v) {
      const __m256 value = _mm256_mul_ps(_mm256_loadu_ps(row + i + 8 * v), inverse);
      rest[v] = _mm256_and_si256(_mm256_cvtps_epi32(value), used);
    }
    for (int32_t d = 0; d < kDigits; ++d) {
      __m256i digits[4];
      for (int v = 0; v < 4; ++v) {
        digits[v] = _mm256_srai_epi32(_mm256_slli_epi32(rest[v], 24), 24);
        rest[v] = _mm256_srai_epi32(_mm256_sub_epi32(rest[v], digits[v]), 8);
      }
      const __m256i bytes = Narrow(digits[0], digits[1], digits[2], digits[3]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(values + ptrdiff_t(d) * count + i), bytes);
      if (block == 0) continue;
      sums[d] += SumOf(bytes);
      if ((i + kStep) % block == 0) {
        block_sums[d * blocks + i / block] = sums[d];
        sums[d] = 0;
      }
    }
  }
  SplitValues(row, i, count, scale.inverse, values);
}

}  // namespace

const QuantizeKernel quantize_f32_qd8_avx2 = {"quantize_f32_qd8_avx2", CpuTier::kAvx2, 1, RunOne};

const QuantizeKernel quantize_f32_qd8x3_avx2 = {"quantize_f32_qd8x3_avx2", CpuTier::kAvx2, kDigits, RunFixed};

}  // namespace tfq::int4
