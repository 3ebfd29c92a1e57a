// Goes through two int8 arrays sixteen values at a time.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX2_BINARY_ROWS_AVX2_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX2_BINARY_ROWS_AVX2_H_

#include <cstdint>
#include <cstring>

#include "delegates/int4/kernels/avx2/output_stage_avx2.h"
#include "delegates/int4/kernels/immintrin.h"

namespace tfq::int4 {

// out[i..i+15] = combine(a[i..i+15], b[i..i+15]); a ragged end goes through a copy, so that nothing is read past it.
template <typename Combine>
static inline void ForEachPairAvx2(int64_t count, const int8_t* a, const int8_t* b, int8_t* out,
                                   const Combine& combine) {
  const auto load = [](const int8_t* from) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from)); };
  int64_t i = 0;
  for (; i + 16 <= count; i += 16) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), combine(load(a + i), load(b + i)));
  }
  if (i == count) return;
  const size_t rest = static_cast<size_t>(count - i);
  int8_t last_a[16] = {}, last_b[16] = {}, last_out[16];
  std::memcpy(last_a, a + i, rest);
  std::memcpy(last_b, b + i, rest);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(last_out), combine(load(last_a), load(last_b)));
  std::memcpy(out + i, last_out, rest);
}

static inline __m256i LowHalfAvx2(__m128i bytes) { return _mm256_cvtepi8_epi32(bytes); }
static inline __m256i HighHalfAvx2(__m128i bytes) { return _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8)); }

// A multiplier and a shift for all channels.
static inline ScaleAvx2 UniformScaleAvx2(int32_t multiplier, int32_t shift, const OutputStage& stage) {
  alignas(32) int32_t multipliers[8], shifts[8];
  for (int32_t i = 0; i < 8; ++i) {
    multipliers[i] = multiplier;
    shifts[i] = shift;
  }
  return MakeScaleAvx2(multipliers, shifts, 0, TiesAwayBegin(stage.rounding, 8), stage);
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX2_BINARY_ROWS_AVX2_H_
