// The sum of two int8 tensors. A term is one 64-bit product a value, or a shift where its multiplier is one half: that
// of the input with the larger scale always is.
#include <immintrin.h>

#include "delegates/int4/kernels/avx2/binary_rows_avx2.h"
#include "delegates/int4/kernels/avx2/output_stage_avx2.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kHalf = 1 << 30;

enum class TermForm { kShift, kMultiply, kMultiplyAndShift };

TermForm FormOfTerm(const AddTerm& term) {
  if (term.right > 0) return TermForm::kMultiplyAndShift;
  return term.multiplier == kHalf && term.left > 0 ? TermForm::kShift : TermForm::kMultiply;
}

struct TermAvx2 {
  __m256i zero_point;
  __m256i multiplier;
  __m128i left;
  __m128i right;
  __m256i mask;  // of the bits that `right` drops
};

template <TermForm form>
TermAvx2 MakeTerm(const AddTerm& term) {
  return {_mm256_set1_epi32(term.zero_point), _mm256_set1_epi32(term.multiplier),
          _mm_cvtsi32_si128(form == TermForm::kShift ? term.left - 1 : term.left), _mm_cvtsi32_si128(term.right),
          _mm256_set1_epi32(static_cast<int32_t>((int64_t{1} << term.right) - 1))};
}

template <TermForm form>
inline __m256i Apply(__m256i x, const TermAvx2& term) {
  x = _mm256_sll_epi32(_mm256_sub_epi32(x, term.zero_point), term.left);
  if (form == TermForm::kShift) return x;
  const __m256i half = _mm256_set1_epi64x(kHalf);
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
void RunTwice(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const TermAvx2 a_term = MakeTerm<a_form>(params.a), b_term = MakeTerm<b_form>(params.b);
  const ScaleAvx2 scale = UniformScaleAvx2(params.multiplier, params.shift, params.stage);
  const OutputStage stage = params.stage;
  const auto half = [&](__m256i x, __m256i y) {
    return ApplyOutputStageAvx2<true>(_mm256_add_epi32(Apply<a_form>(x, a_term), Apply<b_form>(y, b_term)), scale,
                                      stage);
  };
  ForEachPairAvx2(count, a, b, out, [&](__m128i x, __m128i y) {
    return NarrowAvx2(half(LowHalfAvx2(x), LowHalfAvx2(y)), half(HighHalfAvx2(x), HighHalfAvx2(y)));
  });
}

void RunOnce(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const OutputStage stage = params.stage;
  const __m256i a_multiplier = _mm256_set1_epi32(params.a.multiplier);
  const __m256i b_multiplier = _mm256_set1_epi32(params.b.multiplier);
  const __m256i bias =
      _mm256_set1_epi32((int32_t{1} << (-params.shift - 1)) - params.a.zero_point * params.a.multiplier -
                        params.b.zero_point * params.b.multiplier);
  const __m128i shift = _mm_cvtsi32_si128(-params.shift);
  const __m256i zero_point = _mm256_set1_epi32(stage.zero_point);
  const __m256i min = _mm256_set1_epi32(stage.min), max = _mm256_set1_epi32(stage.max);
  const auto half = [&](__m256i x, __m256i y) {
    const __m256i sum = _mm256_add_epi32(_mm256_add_epi32(_mm256_mullo_epi32(x, a_multiplier), bias),
                                         _mm256_mullo_epi32(y, b_multiplier));
    const __m256i value = _mm256_add_epi32(_mm256_sra_epi32(sum, shift), zero_point);
    return _mm256_min_epi32(_mm256_max_epi32(value, min), max);
  };
  ForEachPairAvx2(count, a, b, out, [&](__m128i x, __m128i y) {
    return NarrowAvx2(half(LowHalfAvx2(x), LowHalfAvx2(y)), half(HighHalfAvx2(x), HighHalfAvx2(y)));
  });
}

void Run(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  if (params.stage.rounding == Rounding::kSingle) {
    RunOnce(params, count, a, b, out);
    return;
  }
  const TermForm a_form = FormOfTerm(params.a), b_form = FormOfTerm(params.b);
  if (a_form == TermForm::kMultiplyAndShift || b_form == TermForm::kMultiplyAndShift) {
    RunTwice<TermForm::kMultiplyAndShift, TermForm::kMultiplyAndShift>(params, count, a, b, out);
  } else if (a_form == TermForm::kShift) {
    RunTwice<TermForm::kShift, TermForm::kMultiply>(params, count, a, b, out);
  } else if (b_form == TermForm::kShift) {
    RunTwice<TermForm::kMultiply, TermForm::kShift>(params, count, a, b, out);
  } else {
    RunTwice<TermForm::kMultiply, TermForm::kMultiply>(params, count, a, b, out);
  }
}

}  // namespace

const AddKernel vadd_qs8_u16_avx2 = {"vadd_qs8_u16_avx2", CpuTier::kAvx2, Run};

}  // namespace tfq::int4
