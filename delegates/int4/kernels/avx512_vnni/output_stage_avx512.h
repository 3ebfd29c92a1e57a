// The vector form of output_stage.h for AVX-512: sixteen channels at a time, equal to the scalar form bit for bit.
//
// As on AVX2, each rounding is one 64-bit addition and one shift: floor((floor((p + 2^30) / 2^31) + 2^(r-1)) / 2^r) =
// floor((p + 2^30 + 2^(r+30)) / 2^(r+31)). Where r lies in 2..24, which is where layers have it, that shift goes past
// 32 bits: the upper halves of the products are shifted alone, sixteen at once, and the zero point, moved up by the
// same shift, is part of what is added before. Otherwise products are shifted whole.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_OUTPUT_STAGE_AVX512_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_OUTPUT_STAGE_AVX512_H_

#include <cstdint>

#include "delegates/int4/kernels/avx512_vnni/channels_avx512.h"
#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/output_stage.h"

namespace tfq::int4 {

// What the stage takes of sixteen channels; "odd" belongs to the odd lanes, moved to the even ones.
struct ScaleAvx512 {
  __m512i multiplier, multiplier_odd;
  __m512i rounding, rounding_odd;  // 64 bits each
  __m512i right;                   // of the upper halves in kShort, of the even products otherwise
  __m512i left, right_odd, offset, ties_away, ties_away_odd;  // not in kShort
};

// Of the first sixteen channels.
static inline __m512i ShiftsOf(const ChannelsAvx512& channels) {
  return _mm512_cvtepi8_epi32(_mm_load_si128(reinterpret_cast<const __m128i*>(channels.shift)));
}

// Channels that scale to zero take any shift.
static inline bool ShiftsAreShort(const ChannelsAvx512& channels) {
  const __m512i shifts = ShiftsOf(channels);
  const __m512i multipliers = _mm512_load_si512(channels.multiplier);
  const __m512i from_least = _mm512_add_epi32(shifts, _mm512_set1_epi32(24));
  const __mmask16 beyond = _mm512_cmpgt_epu32_mask(from_least, _mm512_set1_epi32(22));
  return _mm512_mask_test_epi32_mask(beyond, multipliers, multipliers) == 0;
}

// Form for `vectors` times sixteen channels that end before `channel_end` of `channels`.
static inline StageForm StageFormOf(const ChannelsAvx512& block, int vectors, int32_t channels, int32_t channel_end,
                                    const OutputStage& stage) {
  if (FormOf(stage.rounding, channels, channel_end) == RoundingForm::kAway) return StageForm::kAway;
  for (int v = 0; v < vectors; ++v) {
    if (!ShiftsAreShort(block.From(16 * v))) return StageForm::kGeneral;
  }
  return StageForm::kShort;
}

static inline ScaleAvx512 MakeShortScale(const ChannelsAvx512& block, const OutputStage& stage) {
  const __m512i one = _mm512_set1_epi32(1);
  ScaleAvx512 scale;
  scale.multiplier = _mm512_load_si512(block.multiplier);
  scale.multiplier_odd = _mm512_srli_epi64(scale.multiplier, 32);
  const __m512i second = _mm512_sub_epi32(_mm512_setzero_si512(), ShiftsOf(block));
  const __m512i r = _mm512_max_epi32(_mm512_min_epi32(second, _mm512_set1_epi32(24)), _mm512_set1_epi32(2));
  scale.right = _mm512_sub_epi32(r, one);
  const __m512i half = _mm512_sllv_epi32(one, _mm512_sub_epi32(r, _mm512_set1_epi32(2)));
  const __m512i upper = _mm512_add_epi32(half, _mm512_sllv_epi32(_mm512_set1_epi32(stage.zero_point), scale.right));
  const __m512i lower = _mm512_set1_epi64(stage.rounding == Rounding::kSingle ? 0 : 1 << 30);
  scale.rounding = _mm512_add_epi64(_mm512_slli_epi64(upper, 32), lower);
  scale.rounding_odd = _mm512_mask_mov_epi32(lower, 0xaaaa, upper);
  return scale;
}

// Of these channels, the block's first sixteen; `ties_away_begin` as TiesAwayBegin() gives it.
static inline ScaleAvx512 MakeGeneralScale(const ChannelsAvx512& block, __m512i channels, int32_t ties_away_begin,
                                           const OutputStage& stage) {
  const __m512i zero = _mm512_setzero_si512();
  const __m512i one = _mm512_set1_epi64(1);
  const __m512i shifts = ShiftsOf(block);
  const bool single = stage.rounding == Rounding::kSingle;
  ScaleAvx512 scale;
  scale.multiplier = _mm512_load_si512(block.multiplier);
  scale.multiplier_odd = _mm512_srli_epi64(scale.multiplier, 32);
  scale.left = single ? zero : _mm512_max_epi32(shifts, zero);
  const __m512i second = _mm512_sub_epi32(scale.left, shifts);  // the second rounding's shift
  const __m512i right = _mm512_add_epi32(second, _mm512_set1_epi32(31));
  scale.right = _mm512_maskz_mov_epi32(0x5555, right);
  scale.right_odd = _mm512_srli_epi64(right, 32);
  // The half of the first rounding comes beside that of the second; where there is no second, the two are one.
  const __mmask16 rounds_twice = single ? 0 : _mm512_cmpgt_epi32_mask(second, zero);
  const __m512i first_half = _mm512_maskz_set1_epi32(rounds_twice, 1 << 30);
  scale.rounding = _mm512_add_epi64(_mm512_sllv_epi64(one, _mm512_sub_epi64(scale.right, one)),
                                    _mm512_maskz_mov_epi32(0x5555, first_half));
  scale.rounding_odd = _mm512_add_epi64(_mm512_sllv_epi64(one, _mm512_sub_epi64(scale.right_odd, one)),
                                        _mm512_srli_epi64(first_half, 32));
  scale.offset = _mm512_set1_epi32(stage.zero_point);
  const __mmask16 away = _mm512_mask_cmpge_epi32_mask(rounds_twice, channels, _mm512_set1_epi32(ties_away_begin));
  const __m512i units = _mm512_slli_epi64(_mm512_maskz_set1_epi32(away, 1), 31);  // of even lanes, in place
  scale.ties_away = _mm512_and_si512(units, _mm512_set1_epi64(int64_t{1} << 31));
  scale.ties_away_odd = _mm512_slli_epi64(_mm512_srli_epi64(_mm512_maskz_set1_epi32(away, 1), 32), 31);
  return scale;
}

// Sixteen channels from `first` on.
static inline __m512i ChannelsFrom(int32_t first) {
  return _mm512_add_epi32(_mm512_set1_epi32(first),
                          _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

template <StageForm form>
static inline ScaleAvx512 MakeScaleAvx512(const ChannelsAvx512& block, __m512i channels, int32_t ties_away_begin,
                                          const OutputStage& stage) {
  if (form == StageForm::kShort) return MakeShortScale(block, stage);
  return MakeGeneralScale(block, channels, ties_away_begin, stage);
}

// A product of the first rounding's result below zero gets the 2^31 of its channel taken off.
static inline __m512i TakeFromNegativeAvx512(__m512i product, __m512i ties_away) {
  const __m512i rounded = _mm512_add_epi64(product, _mm512_set1_epi64(int64_t{1} << 30));
  return _mm512_mask_sub_epi64(product, _mm512_movepi64_mask(rounded), product, ties_away);
}

// Sixteen outputs, not clamped.
template <StageForm form>
static inline __m512i ApplyOutputStageAvx512(__m512i sum, const ScaleAvx512& scale) {
  const __m512i x = form == StageForm::kShort ? sum : _mm512_sllv_epi32(sum, scale.left);
  __m512i even = _mm512_mul_epi32(x, scale.multiplier);
  __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(x, 32), scale.multiplier_odd);
  if (form == StageForm::kAway) {
    even = TakeFromNegativeAvx512(even, scale.ties_away);
    odd = TakeFromNegativeAvx512(odd, scale.ties_away_odd);
  }
  even = _mm512_add_epi64(even, scale.rounding);
  odd = _mm512_add_epi64(odd, scale.rounding_odd);
  if (form == StageForm::kShort) {
    const __m512i upper = _mm512_mask_shuffle_epi32(odd, 0x5555, even, _MM_PERM_CDAB);
    return _mm512_srav_epi32(upper, scale.right);
  }
  even = _mm512_srav_epi64(even, scale.right);
  odd = _mm512_srav_epi64(odd, scale.right_odd);
  // Away from the ends of 32 bits, where the zero point would wrap; what is clamped so far out stays clamped.
  const __m512i scaled = _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
  const __m512i least = _mm512_set1_epi32(INT32_MIN + 128), most = _mm512_set1_epi32(INT32_MAX - 127);
  return _mm512_add_epi32(_mm512_min_epi32(_mm512_max_epi32(scaled, least), most), scale.offset);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX512_VNNI_OUTPUT_STAGE_AVX512_H_
