// The product of two int8 tensors.
#include <immintrin.h>

#include "delegates/int4/kernels/avx2/binary_rows_avx2.h"
#include "delegates/int4/kernels/avx2/output_stage_avx2.h"
#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

struct ZeroPoints {
  __m256i a;
  __m256i b;
};

// Eight products: both factors fit 16 bits.
inline __m256i Multiply(__m256i x, __m256i y, const ZeroPoints& zero) {
  return _mm256_mullo_epi32(_mm256_sub_epi32(x, zero.a), _mm256_sub_epi32(y, zero.b));
}

template <typename Scale>
void RunScaled(const MulParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out,
               const Scale& scale) {
  const ZeroPoints zero = {_mm256_set1_epi32(params.a_zero_point), _mm256_set1_epi32(params.b_zero_point)};
  ForEachPairAvx2(count, a, b, out, [&](__m128i x, __m128i y) {
    return NarrowAvx2(scale(Multiply(LowHalfAvx2(x), LowHalfAvx2(y), zero)),
                      scale(Multiply(HighHalfAvx2(x), HighHalfAvx2(y), zero)));
  });
}

void Run(const MulParams& params, int64_t count, const int8_t* a, const int8_t* b, int8_t* out) {
  const OutputStage stage = params.stage;
  if (params.scale == 0) {
    const ScaleAvx2 scale = UniformScaleAvx2(params.multiplier, params.shift, stage);
    RunScaled(params, count, a, b, out,
              [&](__m256i product) { return ApplyOutputStageAvx2<true>(product, scale, stage); });
    return;
  }
  const __m256 scale = _mm256_set1_ps(params.scale);
  const __m256 low = _mm256_set1_ps(static_cast<float>(stage.min - stage.zero_point));
  const __m256 high = _mm256_set1_ps(static_cast<float>(stage.max - stage.zero_point));
  const __m256i zero_point = _mm256_set1_epi32(stage.zero_point);
  RunScaled(params, count, a, b, out, [&](__m256i product) {
    const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(product), scale);
    return _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(scaled, low), high)), zero_point);
  });
}

}  // namespace

const MulKernel vmul_qs8_u16_avx2 = {"vmul_qs8_u16_avx2", CpuTier::kAvx2, Run};

}  // namespace tfq::int4
