// The sum of two int8 tensors in integers, sixteen values at a time. A term is one 64-bit product a value, or a shift
// where its multiplier is one half: that of the input with the larger scale always is.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX2_ADD_AVX2_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX2_ADD_AVX2_H_

#include <cstdint>

#include "delegates/int4/kernels/avx2/binary_rows_avx2.h"
#include "delegates/int4/kernels/avx2/output_stage_avx2.h"

namespace tfq::int4 {

constexpr int32_t kOneHalf = 1 << 30;

enum class TermForm { kShift, kMultiply, kMultiplyAndShift };

static inline TermForm FormOfTerm(const AddTerm& term) {
  if (term.right > 0) return TermForm::kMultiplyAndShift;
  return term.multiplier == kOneHalf && term.left > 0 ? TermForm::kShift : TermForm::kMultiply;
}

struct TermAvx2 {
  __m256i zero_point;
  __m256i multiplier;
  __m128i left;
  __m128i right;
  __m256i mask;  // of the bits that `right` drops
};

template <TermForm form>
static inline TermAvx2 MakeTermAvx2(const AddTerm& term) {
  return {_mm256_set1_epi32(term.zero_point), _mm256_set1_epi32(term.multiplier),
          _mm_cvtsi32_si128(form == TermForm::kShift ? term.left - 1 : term.left), _mm_cvtsi32_si128(term.right),
          _mm256_set1_epi32(static_cast<int32_t>((int64_t{1} << term.right) - 1))};
}

template <TermForm form>
static inline __m256i ApplyTermAvx2(__m256i x, const TermAvx2& term) {
  x = _mm256_sll_epi32(_mm256_sub_epi32(x, term.zero_point), term.left);
  if (form == TermForm::kShift) return x;
  const __m256i half = _mm256_set1_epi64x(kOneHalf);
  const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(x, term.multiplier), half);
  const __m256i odd = _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(x, 32), term.multiplier), half);
  const __m256i high = _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa);
  if (form == TermForm::kMultiply) return high;
  const __m256i remainder = _mm256_and_si256(high, term.mask);
  const __m256i negative = _mm256_srli_epi32(high, 31);
  const __m256i threshold = _mm256_add_epi32(_mm256_srli_epi32(term.mask, 1), negative);
  return _mm256_sub_epi32(_mm256_sra_epi32(high, term.right), _mm256_cmpgt_epi32(remainder, threshold));
}

template <TermForm a_form, TermForm b_form>
class AddTwiceAvx2 {
 public:
  explicit AddTwiceAvx2(const AddParams& params)
      : a_term_(MakeTermAvx2<a_form>(params.a)),
        b_term_(MakeTermAvx2<b_form>(params.b)),
        scale_(UniformScaleAvx2(params.multiplier, params.shift, params.stage)),
        stage_(params.stage) {}

  __m128i operator()(__m128i x, __m128i y) const {
    return NarrowAvx2(Half(LowHalfAvx2(x), LowHalfAvx2(y)), Half(HighHalfAvx2(x), HighHalfAvx2(y)));
  }

 private:
  __m256i Half(__m256i x, __m256i y) const {
    const __m256i sum = _mm256_add_epi32(ApplyTermAvx2<a_form>(x, a_term_), ApplyTermAvx2<b_form>(y, b_term_));
    return ApplyOutputStageAvx2<true>(sum, scale_, stage_);
  }

  TermAvx2 a_term_, b_term_;
  ScaleAvx2 scale_;
  OutputStage stage_;
};

// Rounding::kSingle.
class AddOnceAvx2 {
 public:
  explicit AddOnceAvx2(const AddParams& params)
      : a_multiplier_(_mm256_set1_epi32(params.a.multiplier)),
        b_multiplier_(_mm256_set1_epi32(params.b.multiplier)),
        bias_(_mm256_set1_epi32((int32_t{1} << (-params.shift - 1)) - params.a.zero_point * params.a.multiplier -
                                params.b.zero_point * params.b.multiplier)),
        zero_point_(_mm256_set1_epi32(params.stage.zero_point)),
        min_(_mm256_set1_epi32(params.stage.min)),
        max_(_mm256_set1_epi32(params.stage.max)),
        shift_(_mm_cvtsi32_si128(-params.shift)) {}

  __m128i operator()(__m128i x, __m128i y) const {
    return NarrowAvx2(Half(LowHalfAvx2(x), LowHalfAvx2(y)), Half(HighHalfAvx2(x), HighHalfAvx2(y)));
  }

 private:
  __m256i Half(__m256i x, __m256i y) const {
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(_mm256_mullo_epi32(x, a_multiplier_), bias_),
                                         _mm256_mullo_epi32(y, b_multiplier_));
    const __m256i value = _mm256_add_epi32(_mm256_sra_epi32(sum, shift_), zero_point_);
    return _mm256_min_epi32(_mm256_max_epi32(value, min_), max_);
  }

  __m256i a_multiplier_, b_multiplier_, bias_, zero_point_, min_, max_;
  __m128i shift_;
};

// Calls run(add), where add(x, y) gives sixteen outputs.
template <typename Run>
static inline void WithAddAvx2(const AddParams& params, const Run& run) {
  if (params.stage.rounding == Rounding::kSingle) return run(AddOnceAvx2(params));
  const TermForm a_form = FormOfTerm(params.a), b_form = FormOfTerm(params.b);
  if (a_form == TermForm::kMultiplyAndShift || b_form == TermForm::kMultiplyAndShift) {
    run(AddTwiceAvx2<TermForm::kMultiplyAndShift, TermForm::kMultiplyAndShift>(params));
  } else if (a_form == TermForm::kShift) {
    run(AddTwiceAvx2<TermForm::kShift, TermForm::kMultiply>(params));
  } else if (b_form == TermForm::kShift) {
    run(AddTwiceAvx2<TermForm::kMultiply, TermForm::kShift>(params));
  } else {
    run(AddTwiceAvx2<TermForm::kMultiply, TermForm::kMultiply>(params));
  }
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX2_ADD_AVX2_H_
