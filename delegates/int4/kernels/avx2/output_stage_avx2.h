// The vector form of output_stage.h for AVX2: eight channels at a time, equal to the scalar form bit for bit.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX2_OUTPUT_STAGE_AVX2_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX2_OUTPUT_STAGE_AVX2_H_

#include <immintrin.h>

#include <cstdint>

#include "delegates/int4/kernels/registry.h"

namespace tfq::int4 {

// What the stage takes of eight channels.
struct ScaleAvx2 {
  __m256i multiplier;
  __m256i shift;
  __m256i ties_away;  // all ones where the second rounding sends ties away from zero
};

// Of the channels from `channel` on; `ties_away_begin` as TiesAwayBegin() gives it.
static inline ScaleAvx2 LoadScaleAvx2(const int32_t* multiplier, const int32_t* shift, int32_t channel,
                                      int32_t ties_away_begin) {
  const __m256i channels = _mm256_add_epi32(_mm256_set1_epi32(channel), _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8));
  return {_mm256_load_si256(reinterpret_cast<const __m256i*>(multiplier)),
          _mm256_load_si256(reinterpret_cast<const __m256i*>(shift)),
          _mm256_cmpgt_epi32(channels, _mm256_set1_epi32(ties_away_begin))};
}

// AVX2 has no arithmetic 64-bit shift: the product is moved to unsigned by adding 2^63, shifted, and moved back by 2^63
// >> right.
static inline __m256i ShiftRightWithRoundingAvx2(__m256i product, __m256i right) {
  const __m256i one = _mm256_set1_epi64x(1);
  const __m256i sign = _mm256_set1_epi64x(INT64_MIN);
  const __m256i rounding = _mm256_sllv_epi64(one, _mm256_sub_epi64(right, one));
  const __m256i lifted = _mm256_add_epi64(product, _mm256_add_epi64(rounding, sign));
  return _mm256_sub_epi64(_mm256_srlv_epi64(lifted, right), _mm256_srlv_epi64(sign, right));
}

static inline __m256i MultiplySingleRoundingAvx2(__m256i x, const ScaleAvx2& scale) {
  const __m256i right = _mm256_sub_epi32(_mm256_set1_epi32(31), scale.shift);
  const __m256i right_even = _mm256_and_si256(right, _mm256_set1_epi64x(0xffffffff));
  const __m256i right_odd = _mm256_srli_epi64(right, 32);
  const __m256i product_even = _mm256_mul_epi32(x, scale.multiplier);
  const __m256i product_odd = _mm256_mul_epi32(_mm256_srli_epi64(x, 32), _mm256_srli_epi64(scale.multiplier, 32));
  const __m256i even = ShiftRightWithRoundingAvx2(product_even, right_even);
  const __m256i odd = ShiftRightWithRoundingAvx2(product_odd, right_odd);
  return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}

static inline __m256i MultiplyDoubleRoundingAvx2(__m256i x, const ScaleAvx2& scale) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i left = _mm256_max_epi32(scale.shift, zero);
  const __m256i right = _mm256_sub_epi32(left, scale.shift);
  const __m256i shifted = _mm256_sllv_epi32(x, left);
  const __m256i half = _mm256_set1_epi64x(int64_t{1} << 30);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(shifted, scale.multiplier), half);
  const __m256i odd =
      _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(shifted, 32), _mm256_srli_epi64(scale.multiplier, 32)), half);
  const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa);

  const __m256i ones = _mm256_set1_epi32(-1);
  const __m256i mask = _mm256_andnot_si256(_mm256_sllv_epi32(ones, right), ones);
  const __m256i remainder = _mm256_and_si256(high, mask);
  const __m256i raised = _mm256_and_si256(_mm256_cmpgt_epi32(zero, high), scale.ties_away);
  const __m256i threshold = _mm256_sub_epi32(_mm256_srli_epi32(mask, 1), raised);
  return _mm256_sub_epi32(_mm256_srav_epi32(high, right), _mm256_cmpgt_epi32(remainder, threshold));
}

// Eight outputs, clamped, still 32 bits wide.
template <bool single_rounding>
static inline __m256i ApplyOutputStageAvx2(__m256i sum, const ScaleAvx2& scale, const OutputStage& stage) {
  const __m256i scaled =
      single_rounding ? MultiplySingleRoundingAvx2(sum, scale) : MultiplyDoubleRoundingAvx2(sum, scale);
  const __m256i value = _mm256_add_epi32(scaled, _mm256_set1_epi32(stage.zero_point));
  return _mm256_min_epi32(_mm256_max_epi32(value, _mm256_set1_epi32(stage.min)), _mm256_set1_epi32(stage.max));
}

// int8 of two vectors of clamped outputs, in order.
static inline __m128i NarrowAvx2(__m256i low, __m256i high) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX2_OUTPUT_STAGE_AVX2_H_
