// The sum of two int8 tensors: in floating point (linear_sum.h), and in integers the few sixteens in which that leaves
// any output open.
#include "delegates/int4/kernels/avx2/add_avx2.h"
#include "delegates/int4/kernels/immintrin.h"
#include "delegates/int4/kernels/linear_sum.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

__m512 ToFloat(__m128i bytes) { return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)); }

void Run(const AddParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const LinearSum sum = LinearSumOf(params);
  const __m512 a_factor = _mm512_set1_ps(sum.a), b_factor = _mm512_set1_ps(sum.b);
  const __m512 offset = _mm512_set1_ps(sum.offset), certain = _mm512_set1_ps(sum.certain);
  const __m128i min = _mm_set1_epi8(static_cast<int8_t>(params.stage.min));
  const __m128i max = _mm_set1_epi8(static_cast<int8_t>(params.stage.max));
  WithAddAvx2(params, [&](const auto& add) {
    ForEachPairAvx2(count, a, b, out, [&](__m128i x, __m128i y) {
      const __m512 value = _mm512_fmadd_ps(ToFloat(y), b_factor, _mm512_fmadd_ps(ToFloat(x), a_factor, offset));
      const __m512i nearest = _mm512_cvtps_epi32(value);
      const __m512 distance = _mm512_abs_ps(_mm512_sub_ps(value, _mm512_cvtepi32_ps(nearest)));
      if (_mm512_cmp_ps_mask(distance, certain, _CMP_NLT_UQ) != 0) return add(x, y);
      return _mm_min_epi8(_mm_max_epi8(_mm512_cvtsepi32_epi8(nearest), min), max);
    });
  });
}

}  // namespace

const AddKernel vadd_qs8_u16_avx512_vnni = {"vadd_qs8_u16_avx512_vnni", CpuTier::kAvx512Vnni, Run};

}  // namespace tfq::int4
