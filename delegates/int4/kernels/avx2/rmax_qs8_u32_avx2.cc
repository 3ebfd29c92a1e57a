// Maxima over rows, 32 channels at a time.
#include <immintrin.h>

#include <algorithm>

#include "delegates/int4/kernels/variants.h"

namespace tfq::int4 {
namespace {

void Run(const int8_t* const* rows, int32_t count, int32_t channels, int8_t min, int8_t max, int8_t* out) {
  const __m256i low = _mm256_set1_epi8(min), high = _mm256_set1_epi8(max);
  int32_t c = 0;
  for (; c + 32 <= channels; c += 32) {
    __m256i largest = low;
    for (int32_t row = 0; row < count; ++row) {
      largest = _mm256_max_epi8(largest, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[row] + c)));
    }
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + c), _mm256_min_epi8(largest, high));
  }
  for (; c < channels; ++c) {
    int8_t largest = min;
    for (int32_t row = 0; row < count; ++row) largest = std::max(largest, rows[row][c]);
    out[c] = std::min(largest, max);
  }
}

}  // namespace

const MaxRowsKernel rmax_qs8_u32_avx2 = {"rmax_qs8_u32_avx2", CpuTier::kAvx2, Run};

}  // namespace tfq::int4
