// Reading rows of int8 activations.
#ifndef TFQ_DELEGATES_INT4_KERNELS_AVX2_ROWS_AVX2_H_
#define TFQ_DELEGATES_INT4_KERNELS_AVX2_ROWS_AVX2_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace tfq::int4 {

static inline int32_t LoadFour(const int8_t* from) {
  int32_t four;
  std::memcpy(&four, from, 4);
  return four;
}

// One to three channels that end a row; the rest meets weights of zero.
static inline int32_t LoadTail(const int8_t* from, int32_t count) {
  uint32_t four = static_cast<uint8_t>(from[0]);
  if (count > 1) four |= static_cast<uint32_t>(static_cast<uint8_t>(from[1])) << 8;
  if (count > 2) four |= static_cast<uint32_t>(static_cast<uint8_t>(from[2])) << 16;
  return static_cast<int32_t>(four);
}

// Sum of a row, by sums of absolute differences of the row moved to unsigned.
static inline int32_t SumOfRow(const int8_t* row, int32_t channels) {
  const __m256i flip = _mm256_set1_epi8(-128);
  __m256i sums = _mm256_setzero_si256();
  int32_t c = 0;
  for (; c + 32 <= channels; c += 32) {
    const __m256i a = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(row + c));
    sums = _mm256_add_epi64(sums, _mm256_sad_epu8(_mm256_xor_si256(a, flip), _mm256_setzero_si256()));
  }
  const __m128i half_flip = _mm256_castsi256_si128(flip);
  __m128i half = _mm_add_epi64(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  for (; c + 16 <= channels; c += 16) {
    const __m128i a = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + c));
    half = _mm_add_epi64(half, _mm_sad_epu8(_mm_xor_si128(a, half_flip), _mm_setzero_si128()));
  }
  int32_t unsigned_channels = c;
  if (c + 8 <= channels) {
    const __m128i a = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(row + c));
    half = _mm_add_epi64(half, _mm_sad_epu8(_mm_xor_si128(a, half_flip), _mm_setzero_si128()));
    c += 8;
    unsigned_channels += 16;  // the empty upper half counts as eight zeros, moved by 128 as well
  }
  int32_t sum = _mm_cvtsi128_si32(_mm_add_epi64(half, _mm_unpackhi_epi64(half, half))) - 128 * unsigned_channels;
  for (; c < channels; ++c) sum += row[c];
  return sum;
}

}  // namespace tfq::int4

#endif  // TFQ_DELEGATES_INT4_KERNELS_AVX2_ROWS_AVX2_H_
