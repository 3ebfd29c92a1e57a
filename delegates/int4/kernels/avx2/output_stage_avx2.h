// The vector form of output_stage.h for AVX2: eight channels at a time, equal to the scalar form bit for bit.
//
// Each rounding becomes one 64-bit addition and one shift. That holds for the double rounding with ties upward too,
// since floor((floor((p + 2^30) / 2^31) + 2^(r-1)) / 2^r) = floor((p + 2^30 + 2^(r+30)) / 2^(r+31)). Ties away from
// zero take one unit of the first rounding's result, 2^31 here, off the numbers that it made negative.
//
// In the short form the shift goes past 32 bits: the upper halves of the products are shifted alone, all eight at once,
// and the zero point, moved up by the same shift, is part of what is added before.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX2_OUTPUT_STAGE_AVX2_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX2_OUTPUT_STAGE_AVX2_H_

#include <cstdint>

#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/output_stage.h"

namespace tfq::int4 {

// What the stage takes of eight channels; "odd" belongs to the odd lanes, moved to the even ones.
struct ScaleAvx2 {
  __m256i left;
  __m256i multiplier, multiplier_odd;
  __m256i rounding, rounding_odd;  // with 2^63: AVX2 has no arithmetic 64-bit shift, so products are moved to unsigned
  __m256i right, right_odd;
  __m256i remains;                   // what remains of the 2^63
  __m256i ties_away, ties_away_odd;  // 2^31 where ties go away from zero
};

// Of the channels from `channel` on; `ties_away_begin` as TiesAwayBegin() gives it.
static inline ScaleAvx2 MakeScaleAvx2(const int32_t* multiplier, const int32_t* shift, int32_t channel,
                                      int32_t ties_away_begin, const OutputStage& stage) {
  const __m256i zero = _mm256_setzero_si256();
  const __m256i one = _mm256_set1_epi64x(1);
  const __m256i sign = _mm256_set1_epi64x(INT64_MIN);
  const __m256i even_lanes = _mm256_set1_epi64x(0xffffffff);
  const __m256i shifts = _mm256_load_si256(reinterpret_cast<const __m256i*>(shift));
  const bool single = stage.rounding == Rounding::kSingle;
  ScaleAvx2 scale;
  scale.left = single ? zero : _mm256_max_epi32(shifts, zero);
  const __m256i second = _mm256_sub_epi32(scale.left, shifts);  // the second rounding's shift
  const __m256i right = _mm256_add_epi32(second, _mm256_set1_epi32(31));
  scale.multiplier = _mm256_load_si256(reinterpret_cast<const __m256i*>(multiplier));
  scale.multiplier_odd = _mm256_srli_epi64(scale.multiplier, 32);
  scale.right = _mm256_and_si256(right, even_lanes);
  scale.right_odd = _mm256_srli_epi64(right, 32);
  // The half of the first rounding comes beside that of the second; where there is no second, the two are one.
  const __m256i rounds_twice = single ? zero : _mm256_cmpgt_epi32(second, zero);
  const __m256i first_half = _mm256_and_si256(rounds_twice, _mm256_set1_epi32(1 << 30));
  scale.rounding = _mm256_add_epi64(_mm256_sllv_epi64(one, _mm256_sub_epi64(scale.right, one)),
                                    _mm256_add_epi64(_mm256_and_si256(first_half, even_lanes), sign));
  scale.rounding_odd = _mm256_add_epi64(_mm256_sllv_epi64(one, _mm256_sub_epi64(scale.right_odd, one)),
                                        _mm256_add_epi64(_mm256_srli_epi64(first_half, 32), sign));
  scale.remains = _mm256_blend_epi32(_mm256_srlv_epi64(sign, scale.right),
                                     _mm256_slli_epi64(_mm256_srlv_epi64(sign, scale.right_odd), 32), 0xaa);
  const __m256i channels = _mm256_add_epi32(_mm256_set1_epi32(channel), _mm256_setr_epi32(1, 2, 3, 4, 5, 6, 7, 8));
  const __m256i away = _mm256_and_si256(_mm256_cmpgt_epi32(channels, _mm256_set1_epi32(ties_away_begin)), rounds_twice);
  scale.ties_away = _mm256_slli_epi64(_mm256_and_si256(away, one), 31);
  scale.ties_away_odd = _mm256_slli_epi64(_mm256_srli_epi64(away, 63), 31);
  return scale;
}

// A product of the first rounding's result below zero gets the 2^31 of its channel taken off.
static inline __m256i TakeFromNegativeAvx2(__m256i product, __m256i ties_away) {
  const __m256i rounded = _mm256_add_epi64(product, _mm256_set1_epi64x(int64_t{1} << 30));
  const __m256i negative = _mm256_slli_epi64(_mm256_srli_epi64(rounded, 63), 31);
  return _mm256_sub_epi64(product, _mm256_and_si256(negative, ties_away));
}

// Eight outputs, clamped, still 32 bits wide. Without `some_ties_away` the scale must have none.
template <bool some_ties_away>
static inline __m256i ApplyOutputStageAvx2(__m256i sum, const ScaleAvx2& scale, const OutputStage& stage) {
  const __m256i x = _mm256_sllv_epi32(sum, scale.left);
  __m256i even = _mm256_mul_epi32(x, scale.multiplier);
  __m256i odd = _mm256_mul_epi32(_mm256_srli_epi64(x, 32), scale.multiplier_odd);
  if (some_ties_away) {
    even = TakeFromNegativeAvx2(even, scale.ties_away);
    odd = TakeFromNegativeAvx2(odd, scale.ties_away_odd);
  }
  even = _mm256_srlv_epi64(_mm256_add_epi64(even, scale.rounding), scale.right);
  odd = _mm256_srlv_epi64(_mm256_add_epi64(odd, scale.rounding_odd), scale.right_odd);
  const __m256i scaled = _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
  const __m256i value = _mm256_sub_epi32(scaled, scale.remains);
  // Clamped before the zero point is added: near the ends of 32 bits the sum would wrap.
  const __m256i min = _mm256_set1_epi32(stage.min - stage.zero_point);
  const __m256i max = _mm256_set1_epi32(stage.max - stage.zero_point);
  return _mm256_add_epi32(_mm256_min_epi32(_mm256_max_epi32(value, min), max), _mm256_set1_epi32(stage.zero_point));
}

// Whether the short form serves these eight channels; those that scale to zero take any shift.
static inline bool ShiftsAreShortAvx2(const int32_t* multiplier, const int32_t* shift) {
  const __m256i shifts = _mm256_load_si256(reinterpret_cast<const __m256i*>(shift));
  const __m256i multipliers = _mm256_load_si256(reinterpret_cast<const __m256i*>(multiplier));
  const __m256i beyond = _mm256_or_si256(_mm256_cmpgt_epi32(shifts, _mm256_set1_epi32(-2)),
                                         _mm256_cmpgt_epi32(_mm256_set1_epi32(-24), shifts));
  return _mm256_testz_si256(beyond, multipliers) != 0;
}

static inline StageForm StageFormAvx2(const int32_t* multiplier, const int32_t* shift, int32_t vectors,
                                      int32_t channels, int32_t channel_end, const OutputStage& stage) {
  if (FormOf(stage.rounding, channels, channel_end) == RoundingForm::kAway) return StageForm::kAway;
  for (int32_t v = 0; v < vectors; ++v) {
    if (!ShiftsAreShortAvx2(multiplier + 8 * v, shift + 8 * v)) return StageForm::kGeneral;
  }
  return StageForm::kShort;
}

static inline ScaleAvx2 MakeShortScaleAvx2(const int32_t* multiplier, const int32_t* shift, const OutputStage& stage) {
  const __m256i one = _mm256_set1_epi32(1);
  const __m256i two = _mm256_set1_epi32(2);
  ScaleAvx2 scale;
  scale.multiplier = _mm256_load_si256(reinterpret_cast<const __m256i*>(multiplier));
  scale.multiplier_odd = _mm256_srli_epi64(scale.multiplier, 32);
  const __m256i second =
      _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_load_si256(reinterpret_cast<const __m256i*>(shift)));
  const __m256i r = _mm256_max_epi32(_mm256_min_epi32(second, _mm256_set1_epi32(24)), two);
  scale.right = _mm256_sub_epi32(r, one);
  const __m256i half = _mm256_sllv_epi32(one, _mm256_sub_epi32(r, two));
  const __m256i upper = _mm256_add_epi32(half, _mm256_sllv_epi32(_mm256_set1_epi32(stage.zero_point), scale.right));
  const __m256i lower = _mm256_set1_epi64x(stage.rounding == Rounding::kSingle ? 0 : 1 << 30);
  scale.rounding = _mm256_or_si256(_mm256_slli_epi64(upper, 32), lower);
  scale.rounding_odd = _mm256_blend_epi32(lower, upper, 0xaa);
  return scale;
}

template <StageForm form>
static inline ScaleAvx2 MakeScaleOfForm(const int32_t* multiplier, const int32_t* shift, int32_t channel,
                                        int32_t ties_away_begin, const OutputStage& stage) {
  if (form == StageForm::kShort) return MakeShortScaleAvx2(multiplier, shift, stage);
  return MakeScaleAvx2(multiplier, shift, channel, ties_away_begin, stage);
}

// Eight outputs, 32 bits wide, in the short form not clamped.
template <StageForm form>
static inline __m256i ApplyStageOfForm(__m256i sum, const ScaleAvx2& scale, const OutputStage& stage) {
  if (form != StageForm::kShort) return ApplyOutputStageAvx2<form == StageForm::kAway>(sum, scale, stage);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(sum, scale.multiplier), scale.rounding);
  const __m256i odd =
      _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(sum, 32), scale.multiplier_odd), scale.rounding_odd);
  return _mm256_srav_epi32(_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa), scale.right);
}

// int8 of two vectors of outputs, in order.
static inline __m128i NarrowAvx2(__m256i low, __m256i high) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}

static inline __m128i ClampAvx2(__m128i bytes, const OutputStage& stage) {
  return _mm_min_epi8(_mm_max_epi8(bytes, _mm_set1_epi8(static_cast<int8_t>(stage.min))),
                      _mm_set1_epi8(static_cast<int8_t>(stage.max)));
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX2_OUTPUT_STAGE_AVX2_H_
