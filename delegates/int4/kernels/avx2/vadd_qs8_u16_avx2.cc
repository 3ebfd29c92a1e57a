// The sum of two int8 tensors: in floating point (linear_sum.h), and in integers the few sixteens in which that leaves
// any output open.
#include <immintrin.h>

#include "delegates/int4/kernels/avx2/add_avx2.h"
#include "delegates/int4/kernels/linear_sum.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

class AddInFloat {
 public:
  AddInFloat(const LinearSum& sum, const OutputStage& stage)
      : a_(_mm256_set1_ps(sum.a)),
        b_(_mm256_set1_ps(sum.b)),
        offset_(_mm256_set1_ps(sum.offset)),
        certain_(_mm256_set1_ps(sum.certain)),
        min_(_mm_set1_epi8(static_cast<int8_t>(stage.min))),
        max_(_mm_set1_epi8(static_cast<int8_t>(stage.max))) {}

  // False where an output is open.
  bool operator()(__m128i x, __m128i y, __m128i* out) const {
    __m256 open = _mm256_setzero_ps();
    const __m256i low = Half(LowHalfAvx2(x), LowHalfAvx2(y), &open);
    const __m256i high = Half(HighHalfAvx2(x), HighHalfAvx2(y), &open);
    *out = _mm_min_epi8(_mm_max_epi8(NarrowAvx2(low, high), min_), max_);
    return _mm256_testz_ps(open, open) != 0;
  }

 private:
  __m256i Half(__m256i x, __m256i y, __m256* open) const {
    const __m256 first = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(x), a_), offset_);
    const __m256 value = _mm256_add_ps(_mm256_mul_ps(_mm256_cvtepi32_ps(y), b_), first);
    const __m256i nearest = _mm256_cvtps_epi32(value);
    const __m256 distance = _mm256_andnot_ps(_mm256_set1_ps(-0.0F), _mm256_sub_ps(value, _mm256_cvtepi32_ps(nearest)));
    *open = _mm256_or_ps(*open, _mm256_cmp_ps(distance, certain_, _CMP_NLT_UQ));
    return nearest;
  }

  __m256 a_, b_, offset_, certain_;
  __m128i min_, max_;
};

void Run(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const LinearSum sum = LinearSumOf(params);
  WithAddAvx2(params, [&](const auto& add) {
    // One rounding takes no longer in integers.
    if (sum.certain <= 0 || params.stage.rounding == Rounding::kSingle) return ForEachPairAvx2(count, a, b, out, add);
    const AddInFloat add_in_float(sum, params.stage);
    ForEachPairAvx2(count, a, b, out, [&](__m128i x, __m128i y) {
      __m128i outputs;
      return add_in_float(x, y, &outputs) ? outputs : add(x, y);
    });
  });
}

}  // namespace

const AddKernel vadd_qs8_u16_avx2 = {"vadd_qs8_u16_avx2", CpuTier::kAvx2, Run};

}  // namespace tfq::int4
