// Sums over rows, sixteen channels at a time, in 16 bits for as many rows as fit.
#include <immintrin.h>

#include <algorithm>

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

constexpr int32_t kRowsIn16Bits = 256;  // 256 * -128 = -2^15

void AddTo(int32_t* sums, __m128i words) {
  __m256i* to = reinterpret_cast<__m256i*>(sums);
  _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), _mm256_cvtepi16_epi32(words)));
}

void Run(const int8_t* const* rows, int32_t count, int32_t channels, int32_t* sums) {
  int32_t c = 0;
  for (; c + 16 <= channels; c += 16) {
    for (int32_t first = 0; first < count; first += kRowsIn16Bits) {
      const int32_t last = std::min(count, first + kRowsIn16Bits);
      __m256i sum = _mm256_setzero_si256();
      for (int32_t row = first; row < last; ++row) {
        const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(rows[row] + c));
        sum = _mm256_add_epi16(sum, _mm256_cvtepi8_epi16(bytes));
      }
      AddTo(sums + c, _mm256_castsi256_si128(sum));
      AddTo(sums + c + 8, _mm256_extracti128_si256(sum, 1));
    }
  }
  for (; c < channels; ++c) {
    for (int32_t row = 0; row < count; ++row) sums[c] += rows[row][c];
  }
}

}  // namespace

const SumRowsKernel rsum_qs8_u16_avx2 = {"rsum_qs8_u16_avx2", CpuTier::kAvx2, Run};

}  // namespace tfq::int4
